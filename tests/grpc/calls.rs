//! Deadlines, panics, sizes, names.

use std::time::Duration;

use countersign::grpc::layers::Deadlines;
use countersign::proto;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::server::{Server, Setup, raw_call, reason, told, until};

/// Deadlines that a test of them can wait for.
pub(crate) const SHORT: Deadlines = Deadlines {
    default: Duration::from_millis(400),
    max: Duration::from_secs(1),
};

#[tokio::test]
async fn work_stops_when_nobody_waits_any_more() {
    let setup = Setup {
        deadlines: SHORT,
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    // The caller's own deadline; ours where there is none; and the largest, whatever the caller says.
    for (number, (header, at_least)) in [
        (("grpc-timeout", "200m"), 150),
        (("x-none", "0"), 390),
        (("grpc-timeout", "99999999H"), 990),
    ]
    .into_iter()
    .enumerate()
    {
        let begun = Instant::now();
        let code = raw_call(&server, "Refresh", header, told("sleep 60000")).await;
        let took = begun.elapsed().as_millis();
        assert_eq!(code, Code::DeadlineExceeded, "{header:?}");
        assert!((at_least..30_000).contains(&took), "{header:?} took {took} ms");
        until("the work is dropped", || server.seen.dropped() == number + 1).await;
    }
    let mut client = server.client().await;
    assert!(client.refresh(told("sleep 10")).await.is_ok());
    assert_eq!((server.seen.begun(), server.seen.dropped()), (4, 3));
}

#[tokio::test]
async fn work_stops_when_the_caller_goes_away() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(told("sleep 60000")).await });
    until("the work begins", || server.seen.begun() == 1).await;
    call.abort();
    until("the work is dropped", || server.seen.dropped() == 1).await;
}

#[tokio::test]
async fn a_hopeless_or_malformed_deadline_is_refused_before_any_work() {
    let server = Server::start(Setup::default()).await;
    for (timeout, code) in [
        ("0n", Code::DeadlineExceeded),
        ("20m", Code::DeadlineExceeded),
        ("soon", Code::InvalidArgument),
        ("1.5S", Code::InvalidArgument),
        ("123456789S", Code::InvalidArgument),
    ] {
        let told = raw_call(&server, "Refresh", ("grpc-timeout", timeout), told("at once")).await;
        assert_eq!(told, code, "{timeout}");
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
    let mut named = tonic::Request::new(told("at once"));
    named
        .metadata_mut()
        .insert("x-request-id", "x".repeat(65).parse().unwrap());
    let mut given = vec![];
    for request in [tonic::Request::new(told("at once")), named] {
        let answer = client.refresh(request).await.unwrap();
        given.push(answer.metadata().get("x-request-id").unwrap().clone());
    }
    assert_ne!(given[0], given[1]);
    assert!(given.iter().all(|name| name.as_bytes().len() <= 64));
}
