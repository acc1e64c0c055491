//! Requests that are compressed with gzip.

use std::io::Write as _;

use countersign::grpc::layers::{CallLimits, GateLimits};
use countersign::proto;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tonic::Code;

use crate::frames;
use crate::server::{Server, ServerSettings, instruction};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A message with the prefix of a compressed one.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut message = frames::message(bytes);
    message[0] = 1;
    message
}

/// Calls a method of `TokenService` with these messages in this encoding; returns the code and the headers.
async fn call(server: &Server, method: &str, encoding: &str, body: Vec<u8>) -> (Code, HeaderMap) {
    let io = TokioIo::new(tokio::net::TcpStream::connect(server.address).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost/countersign.v1.TokenService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(Full::<bytes::Bytes>::new(body.into()));
    let (head, body) = send.send_request(request.unwrap()).await.unwrap().into_parts();
    let mut headers = head.headers;
    headers.extend(body.collect().await.unwrap().trailers().cloned().unwrap_or_default());
    let code = Code::from_bytes(headers["grpc-status"].as_bytes());
    (code, headers)
}

async fn code(server: &Server, method: &str, encoding: &str, body: Vec<u8>) -> Code {
    call(server, method, encoding, body).await.0
}

fn token(length: usize) -> Vec<u8> {
    let token = proto::ValidateRequest {
        access_token: "x".repeat(length),
        ..proto::ValidateRequest::default()
    };
    token.encode_to_vec()
}

fn batch(length: usize) -> Vec<u8> {
    let token = proto::ValidateRequest::decode(&*token(length)).unwrap();
    proto::ValidateBatchRequest { requests: vec![token] }.encode_to_vec()
}

#[tokio::test]
async fn a_compressed_request_is_answered_like_any_other() {
    let server = Server::start(ServerSettings::default()).await;
    let plain = token(500);
    for (encoding, body) in [
        ("gzip", compressed(&gzip(&plain))),
        // RFC 1952 §2.2: several members are one text.
        ("gzip", compressed(&[gzip(&plain[..100]), gzip(&plain[100..])].concat())),
        // A client may leave a message as it is, for instance because it is short.
        ("gzip", frames::message(&plain)),
        ("identity", frames::message(&plain)),
    ] {
        assert_eq!(code(&server, "Validate", encoding, body).await, Code::Ok, "{encoding}");
    }
    // The service sees the message itself.
    let fails = instruction("fail now").encode_to_vec();
    let answer = code(&server, "Refresh", "gzip", compressed(&gzip(&fails))).await;
    assert_eq!(answer, Code::Unavailable);
}

#[tokio::test]
async fn the_size_limit_of_a_method_is_that_of_the_decompressed_message() {
    let server = Server::start(ServerSettings::default()).await;
    for (method, message, expected) in [
        ("Validate", token(65_000), Code::Ok),
        ("Validate", token(66_000), Code::OutOfRange),
        ("Validate", token(5_000_000), Code::OutOfRange),
        ("ValidateBatch", batch(1_500_000), Code::Ok),
        ("ValidateBatch", batch(1_600_000), Code::OutOfRange),
        ("GetKeys", vec![0; 5_000_000], Code::OutOfRange),
    ] {
        let body = compressed(&gzip(&message));
        assert!(body.len() < 64 * 1024, "{}", body.len());
        assert_eq!(
            code(&server, method, "gzip", body).await,
            expected,
            "{method} {}",
            message.len()
        );
    }
}

#[tokio::test]
async fn a_message_takes_its_memory_from_the_gate_while_it_expands() {
    let request_bytes = GateLimits {
        total: 400_000,
        connection: 400_000,
    };
    let limits = CallLimits {
        request_bytes,
        ..CallLimits::default()
    };
    let server = Server::start(ServerSettings {
        limits,
        ..ServerSettings::default()
    })
    .await;
    let small = compressed(&gzip(&batch(50_000)));
    assert_eq!(code(&server, "ValidateBatch", "gzip", small).await, Code::Ok);
    // The method allows so much, but there is no place for it.
    let large = compressed(&gzip(&batch(1_000_000)));
    assert!(large.len() < 8_000, "{}", large.len());
    assert_eq!(
        code(&server, "ValidateBatch", "gzip", large).await,
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn what_is_not_gzip_is_refused_as_a_wrong_request() {
    let server = Server::start(ServerSettings::default()).await;
    let good = gzip(&token(500));
    let cut = &compressed(&good)[..good.len() - 3];
    let twice = compressed(&good).repeat(2);
    for (what, body) in [
        ("no gzip", compressed(b"not compressed at all")),
        ("an incomplete member", compressed(&good[..good.len() - 3])),
        ("garbage after it", compressed(&[&good[..], b"garbage"].concat())),
        (
            "a wrong checksum",
            compressed(&[&good[..good.len() - 8], &[0; 8]].concat()),
        ),
        ("an incomplete message", cut.to_vec()),
        ("two messages", twice),
    ] {
        let (code, headers) = call(&server, "Validate", "gzip", body).await;
        assert_eq!(code, Code::InvalidArgument, "{what}: {headers:?}");
    }
}

#[tokio::test]
async fn another_encoding_is_refused_and_the_accepted_ones_are_named() {
    let server = Server::start(ServerSettings::default()).await;
    for encoding in ["deflate", "zstd", "GZIP", "gzip,identity", ""] {
        let (code, headers) = call(&server, "Validate", encoding, frames::message(&token(10))).await;
        assert_eq!(code, Code::Unimplemented, "{encoding}");
        assert_eq!(headers["grpc-accept-encoding"], "gzip,identity", "{encoding}");
    }
}
