//! What an anonymous caller can learn: reflection, the side port, and versions in errors.

use std::process::Command;

use base64::Engine as _;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::side_port::get;
use crate::support::deployment::for_tests;
use crate::support::process::find;
use crate::support::serve::Storage;
use crate::support::{Caller, Countersign};

/// The descriptors that are shipped for tools, for servers without reflection.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/countersign.protoset");

fn grpcurl(server: &Countersign, flags: &[&str], words: &[&str]) -> (bool, String) {
    let own = std::path::Path::new("target/tools/bin/grpcurl");
    let program = std::fs::canonicalize(own).ok().or_else(|| find("grpcurl"));
    let done = Command::new(program.expect("grpcurl is not installed: tests/run does that"))
        .arg("-plaintext")
        .args(flags)
        .arg(server.grpc().to_string())
        .args(words)
        .output()
        .unwrap();
    let output = if done.status.success() {
        done.stdout
    } else {
        done.stderr
    };
    (done.status.success(), String::from_utf8_lossy(&output).into_owned())
}

#[tokio::test]
async fn without_reflection_tools_use_the_shipped_descriptors() {
    let server = for_tests(Storage::embedded())
        .set("server.reflection", "false")
        .serve(&[]);
    let (listed, output) = grpcurl(&server, &[], &["list"]);
    assert!(
        !listed && output.contains("does not support the reflection API"),
        "{output}"
    );
    let asked = json!({"access_token": "garbage"}).to_string();
    let (called, output) = grpcurl(
        &server,
        &["-protoset", SHIPPED, "-d", &asked],
        &["countersign.v1.TokenService/Validate"],
    );
    assert!(called, "{output}");
    let answer: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(answer["reason"], "INACTIVE_REASON_MALFORMED");
    let (described, output) = grpcurl(&server, &["-protoset", SHIPPED], &["describe", "google.rpc.ErrorInfo"]);
    assert!(described, "{output}");
}

/// The descriptors of all services and of the error details.
fn descriptors() -> Vec<u8> {
    let mut all = FileDescriptorSet::default();
    for part in [
        countersign::proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_types::pb::FILE_DESCRIPTOR_SET,
    ] {
        let part = FileDescriptorSet::decode(part).unwrap();
        let known: Vec<_> = all.file.iter().map(|file| file.name().to_owned()).collect();
        let new = part
            .file
            .into_iter()
            .filter(|file| !known.contains(&file.name().to_owned()));
        all.file.extend(new);
    }
    all.encode_to_vec()
}

/// `COUNTERSIGN_WRITE_PROTOSET=1 cargo test --all-features --test ops shipped_descriptors` writes the file again.
#[test]
fn the_shipped_descriptors_are_those_of_the_protocol() {
    let current = descriptors();
    if std::env::var_os("COUNTERSIGN_WRITE_PROTOSET").is_some() {
        std::fs::write(SHIPPED, &current).unwrap();
    }
    let shipped = std::fs::read(SHIPPED).unwrap();
    assert!(
        shipped == current,
        "deploy/countersign.protoset does not match the protos; the comment above says how to write it again"
    );
}

#[tokio::test]
async fn metrics_and_keys_have_a_port_of_their_own() {
    let server = for_tests(Storage::embedded()).serve(&[]);
    let http = server.http_url().trim_start_matches("http://").parse().unwrap();
    for path in ["/metrics", "/.well-known/jwks.json"] {
        assert_eq!(get(http, path).await.unwrap().0, 200, "{path}");
        let (status, text) = get(server.grpc(), path).await.unwrap();
        assert!(
            status == 400 && text.starts_with("This is a gRPC port"),
            "{path} on the port of gRPC: {text}"
        );
    }
    assert_eq!(get(http, "/countersign.v1.TokenService/Validate").await.unwrap().0, 404);
    // And the port with the keys serves no gRPC.
    let stray = Caller::at(&server.http_url());
    assert!(stray.refresh("csr_garbage").await.is_err());
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_metadata_under_that_path() {
    let issuer = "https://example.org/auth/eu";
    let server = for_tests(Storage::embedded()).set("tokens.issuer", issuer).serve(&[]);
    let http = server.http_url().trim_start_matches("http://").parse().unwrap();
    let json = async |path: &str| -> serde_json::Value {
        let (status, body) = get(http, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    for path in [
        // RFC 8414 §3.1 and §5, and OpenID Connect Discovery 1.0 §4.
        "/.well-known/oauth-authorization-server/auth/eu",
        "/.well-known/openid-configuration/auth/eu",
        "/auth/eu/.well-known/openid-configuration",
    ] {
        let document = json(path).await;
        assert_eq!(document["issuer"], issuer, "{path}");
        let keys = document["jwks_uri"]
            .as_str()
            .unwrap()
            .strip_prefix("https://example.org");
        let keys = json(keys.unwrap()).await;
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "one signs, one is the next");
    }
    assert_eq!(get(http, "/auth/us/.well-known/jwks.json").await.unwrap().0, 404);
}

#[tokio::test]
async fn errors_contain_no_versions() {
    let server = for_tests(Storage::embedded()).serve(&[]);
    let refused = countersign::proto::RefreshRequest {
        refresh_token: "csr_garbage".to_owned(),
        ..countersign::proto::RefreshRequest::default()
    };
    for (path, message) in [
        ("/countersign.v1.TokenService/Refresh", refused.encode_to_vec()),
        ("/countersign.v1.TokenService/Nothing", Vec::new()),
        ("/countersign.v1.TokenService/Validate", vec![0xff; 9]),
        ("/countersign.v1.UserService/GetUser", Vec::new()),
    ] {
        let io = TokioIo::new(TcpStream::connect(server.grpc()).await.unwrap());
        let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        body.extend_from_slice(&message);
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::<bytes::Bytes>::new(body.into()))
            .unwrap();
        let (head, body) = send.send_request(request).await.unwrap().into_parts();
        let mut headers = head.headers.clone();
        headers.extend(body.collect().await.unwrap().trailers().cloned().unwrap_or_default());
        assert!(headers.contains_key("grpc-status"), "{path}: {headers:?}");
        for (name, value) in &headers {
            let known = [
                "content-type",
                "grpc-status",
                "grpc-message",
                "grpc-status-details-bin",
                "x-request-id",
            ];
            assert!(known.contains(&name.as_str()), "{path}: {name}: {value:?}");
            let mut text = value.to_str().unwrap().to_owned();
            if name == "grpc-status-details-bin" {
                let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
                text = String::from_utf8_lossy(&engine.decode(text.trim_end_matches('=')).unwrap()).into_owned();
            }
            let lower = text.to_lowercase();
            for word in [
                env!("CARGO_PKG_VERSION"),
                "tonic",
                "hyper",
                "rust",
                "sqlite",
                "redis",
                "postgres",
            ] {
                assert!(!lower.contains(word), "{path}: {name}: {text}");
            }
        }
    }
}
