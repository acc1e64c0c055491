//! Peers that break the protocol or send nothing.

use std::time::Duration;

use countersign::proto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{Server, ServerSettings};

/// The time until the server closes the connection.
async fn until_closed(mut peer: TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), peer.read_to_end(&mut rest)).await;
    let _reset_or_end = read.expect("the server closes the connection");
    begun.elapsed()
}

#[tokio::test]
async fn a_silent_peer_is_dropped_after_five_seconds_and_another_protocol_at_once() {
    let server = Server::start(ServerSettings::default()).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut other = TcpStream::connect(server.address).await.unwrap();
    other
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let (silent, slow, other) = tokio::join!(until_closed(silent), until_closed(slow), until_closed(other));
    for waited in [silent, slow] {
        assert!((4..20).contains(&waited.as_secs()), "{waited:?}");
    }
    assert!(other < silent.min(slow), "{other:?}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let setup = ServerSettings {
        max_connections: 1,
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    // A connection with a call does not give way.
    let mut first = HealthClient::new(server.channel().await);
    let watch = first.watch(HealthCheckRequest::default()).await.unwrap();
    let mut second = server.client().await;
    let mut waiting = tokio::spawn(async move { second.get_keys(proto::GetKeysRequest {}).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "answered beyond the limit");
    drop((first, watch));
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn when_all_connections_are_in_use_one_without_a_call_gives_way() {
    let setup = ServerSettings {
        max_connections: 2,
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    let mut first = server.client().await;
    first.get_keys(proto::GetKeysRequest {}).await.unwrap();
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut third = server.client().await;
    let answered = third.get_keys(proto::GetKeysRequest {});
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    assert!(answered.unwrap().is_ok());
    // The one that never had a call was closed; the first one lives on.
    until_closed(silent).await;
    assert!(first.get_keys(proto::GetKeysRequest {}).await.is_ok());
}

#[tokio::test]
async fn a_request_that_is_not_grpc_gets_an_http_error() {
    let server = Server::start(ServerSettings::default()).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(io);
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let path = "http://localhost/countersign.v1.TokenService/GetKeys";
    for (method, kind, code) in [
        ("GET", "application/grpc", 405),
        ("POST", "application/json", 415),
        ("POST", "application/grpcweb", 415),
        ("POST", "application/grpc+proto", 200),
    ] {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("content-type", kind);
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        let answer = send.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), code, "{method} {kind}");
    }
}
