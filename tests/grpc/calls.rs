//! Deadlines, panics, sizes, names.

use std::time::Duration;

use countersign::proto;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::server::{Server, Setup, reason, told, until};

#[tokio::test]
async fn work_stops_when_nobody_waits_any_more() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let mut request = told("sleep 5000");
    request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
    let begun = Instant::now();
    let error = client.refresh(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    until("the work is dropped", || server.seen.dropped() == 1).await;

    // Without a deadline the default counts, and no deadline counts for more than the largest.
    assert_eq!(
        client.refresh(told("sleep 5000")).await.unwrap_err().code(),
        Code::DeadlineExceeded
    );
    let mut absurd = told("sleep 5000");
    absurd
        .metadata_mut()
        .insert("grpc-timeout", "99999999H".parse().unwrap());
    let begun = Instant::now();
    assert_eq!(client.refresh(absurd).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!((server.seen.begun(), server.seen.dropped()), (3, 3));
    assert!(client.refresh(told("sleep 10")).await.is_ok());
}

#[tokio::test]
async fn work_stops_when_the_caller_goes_away() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(told("sleep 5000")).await });
    until("the work begins", || server.seen.begun() == 1).await;
    call.abort();
    until("the work is dropped", || server.seen.dropped() == 1).await;
}

#[tokio::test]
async fn a_hopeless_or_malformed_deadline_is_refused_before_any_work() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    for (timeout, code) in [
        ("0n", Code::DeadlineExceeded),
        ("19m", Code::DeadlineExceeded),
        ("soon", Code::InvalidArgument),
        ("1.5S", Code::InvalidArgument),
        ("123456789S", Code::InvalidArgument),
    ] {
        let mut request = told("at once");
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let error = client.refresh(request).await.unwrap_err();
        assert_eq!(error.code(), code, "{timeout}");
    }
    assert_eq!(server.seen.begun(), 0);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_connection_goes_on() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let error = client.refresh(told("panic canary")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, "internal error"));
    assert!(error.get_error_details().error_info().is_none());
    assert!(client.refresh(told("at once")).await.is_ok());
}

#[tokio::test]
async fn an_outage_says_when_to_try_again_and_nothing_private() {
    let server = Server::start(Setup::default()).await;
    let error = server.client().await.refresh(told("fail now")).await.unwrap_err();
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
    let server = Server::start(Setup::default()).await;
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
async fn a_name_is_made_where_none_or_an_indecent_one_is_given() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let mut named = told("at once");
    named
        .metadata_mut()
        .insert("x-request-id", "x".repeat(65).parse().unwrap());
    let mut given = vec![];
    for request in [told("at once"), named] {
        let answer = client.refresh(request).await.unwrap();
        given.push(answer.metadata().get("x-request-id").unwrap().clone());
    }
    assert_ne!(given[0], given[1]);
    assert!(given.iter().all(|name| name.as_bytes().len() <= 64));
}
