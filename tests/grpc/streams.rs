//! Streams: they outlive the deadlines of other calls, and end when the caller's authorization or the server ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::proto;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::calls::SHORT;
use crate::server::{Server, ServerSettings, raw_call_at, reason, with_bearer};

/// The number of messages, and how the stream ended.
async fn drain<T>(mut stream: Streaming<T>) -> (usize, Option<Status>) {
    let mut count = 0;
    loop {
        match stream.message().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, None),
            Err(status) => return (count, Some(status)),
        }
    }
}

async fn watch(server: &Server) -> Streaming<proto::WatchRevocationsResponse> {
    let request = with_bearer(proto::WatchRevocationsRequest::default(), "fading");
    server
        .client()
        .await
        .watch_revocations(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn a_stream_outlives_the_default_deadline_and_ends_when_its_caller_is_revoked() {
    let setup = ServerSettings {
        deadlines: SHORT,
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    let mut stream = watch(&server).await;
    // A message each 100 ms, and the maximum deadline here is one second.
    for n in 0..15 {
        assert!(matches!(stream.message().await, Ok(Some(_))), "the message {n}");
    }
    server.observed.faded.store(true, Ordering::SeqCst);
    let (_, end) = drain(stream).await;
    let end = end.unwrap();
    assert_eq!(
        (end.code(), &*reason(&end)),
        (Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
    );
}

#[tokio::test]
async fn a_stream_ends_at_its_callers_own_deadline() {
    let server = Server::start(ServerSettings::default()).await;
    let begun = Instant::now();
    let never = HealthCheckRequest::default();
    let path = "/grpc.health.v1.Health/Watch";
    let code = raw_call_at(&server, path, ("grpc-timeout", "1500m"), never).await;
    assert_eq!(code, Code::DeadlineExceeded);
    let took = begun.elapsed().as_millis();
    assert!((1400..20_000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn a_watch_of_an_unknown_name_says_so_and_stays_open_until_the_server_stops() {
    let server = Server::start(ServerSettings::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    let request = || HealthCheckRequest {
        service: "countersign.v1.NoSuchService".into(),
    };
    let mut updates = health.watch(request()).await.unwrap().into_inner();
    let first = updates.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    let more = tokio::time::timeout(Duration::from_millis(1500), updates.message()).await;
    assert!(more.is_err(), "the stream goes on: {more:?}");
    // `Check` has no such status.
    let checked = health.check(request()).await;
    assert_eq!(checked.unwrap_err().code(), Code::NotFound);

    server.stop.drain();
    let (_, end) = drain(updates).await;
    let end = end.unwrap();
    assert_eq!((end.code(), &*reason(&end)), (Code::Unavailable, "SHUTTING_DOWN"));
}

#[tokio::test]
async fn stopping_notifies_health_watchers_and_ends_streams() {
    let server = Server::start(ServerSettings::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: "countersign.v1.TokenService".into(),
    };
    let mut updates = health.watch(request).await.unwrap().into_inner();
    let first = updates.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let stream = watch(&server).await;

    server.stop.drain();
    let second = updates.message().await.unwrap().unwrap();
    assert_eq!(second.status(), ServingStatus::NotServing);
    let (_, end) = drain(stream).await;
    let end = end.unwrap();
    assert_eq!((end.code(), &*reason(&end)), (Code::Unavailable, "SHUTTING_DOWN"));
    tokio::time::timeout(Duration::from_secs(20), server.ended)
        .await
        .unwrap()
        .unwrap();
}
