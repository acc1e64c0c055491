//! Deadlines, panics, message sizes and request ids.

use std::time::Duration;

use countersign::grpc::layers::Deadlines;
use countersign::proto;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::server::{Server, ServerSettings, instruction, raw_call, reason, until};

/// Deadlines that a test can wait for.
pub(crate) const SHORT: Deadlines = Deadlines {
    default: Duration::from_millis(400),
    max: Duration::from_secs(1),
};

#[tokio::test]
async fn work_stops_at_the_deadline() {
    let setup = ServerSettings {
        deadlines: SHORT,
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    // The deadline of the caller; the default if there is none; and the maximum, whatever the caller asks for.
    for (number, (header, at_least)) in [
        (("grpc-timeout", "200m"), 150),
        (("x-none", "0"), 390),
        (("grpc-timeout", "99999999H"), 990),
    ]
    .into_iter()
    .enumerate()
    {
        let begun = Instant::now();
        let code = raw_call(&server, "Refresh", header, instruction("sleep 60000")).await;
        let took = begun.elapsed().as_millis();
        assert_eq!(code, Code::DeadlineExceeded, "{header:?}");
        assert!((at_least..30_000).contains(&took), "{header:?} took {took} ms");
        until("the work is dropped", || server.observed.dropped() == number + 1).await;
    }
    let mut client = server.client().await;
    assert!(client.refresh(instruction("sleep 10")).await.is_ok());
    assert_eq!((server.observed.begun(), server.observed.dropped()), (4, 3));
}

#[tokio::test]
async fn work_stops_when_the_caller_cancels() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(instruction("sleep 60000")).await });
    until("the work begins", || server.observed.begun() == 1).await;
    call.abort();
    until("the work is dropped", || server.observed.dropped() == 1).await;
}

#[tokio::test]
async fn a_too_short_or_malformed_deadline_is_refused_before_any_work() {
    let server = Server::start(ServerSettings::default()).await;
    for (timeout, code) in [
        ("0n", Code::DeadlineExceeded),
        ("20m", Code::DeadlineExceeded),
        ("soon", Code::InvalidArgument),
        ("1.5S", Code::InvalidArgument),
        ("123456789S", Code::InvalidArgument),
    ] {
        let actual = raw_call(&server, "Refresh", ("grpc-timeout", timeout), instruction("at once")).await;
        assert_eq!(actual, code, "{timeout}");
    }
    assert_eq!(server.observed.begun(), 0);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_connection_goes_on() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    let error = client.refresh(instruction("panic canary")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, "internal error"));
    assert!(error.get_error_details().error_info().is_none());
    assert!(client.refresh(instruction("at once")).await.is_ok());
}

#[tokio::test]
async fn an_outage_has_retry_info_and_no_private_details() {
    let server = Server::start(ServerSettings::default()).await;
    let error = server
        .client()
        .await
        .refresh(instruction("fail now"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), &*reason(&error)),
        (Code::Unavailable, "STORE_UNAVAILABLE")
    );
    assert_eq!(error.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    assert!(error.metadata().contains_key("x-request-id"));
    let retry = error.get_error_details().retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(1)));
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn each_method_takes_messages_up_to_its_own_size() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    let token = |length: usize| proto::ValidateRequest {
        access_token: "x".repeat(length),
        ..proto::ValidateRequest::default()
    };
    assert!(client.validate(token(65_000)).await.is_ok());
    assert_eq!(
        client.validate(token(66_000)).await.unwrap_err().code(),
        Code::OutOfRange
    );
    let batch = |length: usize| proto::ValidateBatchRequest {
        requests: vec![token(length)],
    };
    assert!(client.validate_batch(batch(1_500_000)).await.is_ok());
    let error = client.validate_batch(batch(1_600_000)).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_request_id_is_generated_if_it_is_missing_or_invalid() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    let mut named = tonic::Request::new(instruction("at once"));
    named
        .metadata_mut()
        .insert("x-request-id", "x".repeat(65).parse().unwrap());
    let mut given = vec![];
    for request in [tonic::Request::new(instruction("at once")), named] {
        let answer = client.refresh(request).await.unwrap();
        given.push(answer.metadata().get("x-request-id").unwrap().clone());
    }
    assert_ne!(given[0], given[1]);
    assert!(given.iter().all(|name| name.as_bytes().len() <= 64));
}
