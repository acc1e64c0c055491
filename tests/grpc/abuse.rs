//! Peers that break the protocol or send nothing.

use std::time::Duration;

use countersign::proto;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{Server, ServerSettings};

/// What the server answers to these bytes before it closes the connection.
async fn answer(server: &Server, parts: &[&[u8]]) -> String {
    let mut peer = TcpStream::connect(server.address).await.unwrap();
    peer.set_nodelay(true).unwrap();
    for part in parts {
        peer.write_all(part).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), peer.read_to_string(&mut answer)).await;
    read.expect("the server closes the connection").unwrap();
    answer
}

#[tokio::test]
async fn http1_is_told_that_it_has_reached_a_grpc_port() {
    let server = Server::start(ServerSettings::default()).await;
    let head =
        b"POST /countersign.v1.TokenService/Validate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000\r\n\r\n";
    let with_body = [&head[..], &vec![b'x'; 200_000]].concat();
    for request in [
        // Shorter than the preface of HTTP/2.
        &[&b"GET / HTTP/1.0\r\n\r\n"[..]][..],
        &[b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"],
        // It begins like that preface, which is `PRI * HTTP/2.0`.
        &[b"P", b"UT /x HTTP/1.1\r\nhost: localhost\r\n\r\n"],
        &[b"PRI * HTTP/1.1\r\n\r\n"],
        &[head],
    ] {
        let answer = answer(&server, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", text.len())), "{answer}");
        assert!(text.contains("gRPC") && text.contains("server.http_listen"), "{answer}");
    }
    // A body that is not read to its end does not keep the connection.
    let mut peer = TcpStream::connect(server.address).await.unwrap();
    let _ = peer.write_all(&with_body).await;
    let waited = until_closed(peer).await;
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    // Other protocols are not answered.
    for other in [&b"\x16\x03\x01\x02\x00"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0\0\0"] {
        assert_eq!(answer(&server, &[other]).await, "");
    }
}

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
        if code != 200 {
            assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(text.starts_with(b"This is a gRPC port"), "{text:?}");
        }
    }
}
