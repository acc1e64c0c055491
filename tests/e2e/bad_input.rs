//! Invalid input gets an error that names what is wrong, and has no effect.

use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::{ClientSecretCredential, IssueRequest, PasswordCredential, RefreshRequest, RevokeRequest};
use prost::Message as _;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use crate::support::caller::reason;
use crate::support::raw::RawCodec;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, PASSWORD, assert_refused};

async fn embedded() -> (Deployment, Countersign, Caller) {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    (deployment, server, caller)
}

/// Sends these bytes as the request of a call.
async fn call_with_bytes(server: &Countersign, method: &'static str, bytes: Vec<u8>) -> Status {
    let channel = tonic::transport::Endpoint::from_shared(server.grpc_url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(method);
    client
        .unary(Request::new(bytes), path, RawCodec)
        .await
        .map(|_| ())
        .unwrap_err()
}

#[tokio::test]
async fn an_empty_or_missing_field_is_named() {
    let (_deployment, _server, caller) = embedded().await;
    let issue = |credential| {
        let mut stub = caller.tokens.clone();
        let request = IssueRequest {
            credential,
            ..IssueRequest::default()
        };
        async move { stub.issue(request).await }
    };
    assert_refused(issue(None).await, Code::InvalidArgument, "INVALID_REQUEST");
    let password_login = |username: &str, password: &str| {
        Some(Credential::Password(PasswordCredential {
            username: username.into(),
            password: password.into(),
        }))
    };
    for (username, password) in [("", PASSWORD), ("ada", "")] {
        let refused = issue(password_login(username, password)).await.unwrap_err();
        assert!(
            matches!(reason(&refused), (Code::InvalidArgument | Code::Unauthenticated, _)),
            "{username:?}: {refused:?}"
        );
    }
    let unknown = IssueRequest {
        client_id: "no-such-client".into(),
        credential: Some(Credential::ClientSecret(ClientSecretCredential {
            secret: "guess".into(),
        })),
        ..IssueRequest::default()
    };
    assert_refused(
        caller.tokens.clone().issue(unknown).await,
        Code::Unauthenticated,
        "INVALID_CREDENTIALS",
    );
    let both = RevokeRequest {
        target: Some(Target::Token("x".into())),
        keep_session_id: "0190b6a8-1111-7000-8000-000000000000".into(),
        ..RevokeRequest::default()
    };
    assert_refused(
        caller.tokens.clone().revoke(both).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    // A missing field must not revoke all sessions of the default client.
    assert_refused(
        caller.revoke(Target::ClientId(String::new())).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    let attempt = "a".repeat(65);
    assert_refused(
        caller.refresh_as("csr_x", &attempt).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    caller.login("ada").await;
}

#[tokio::test]
async fn input_that_is_too_large_is_refused_before_any_work() {
    let (_deployment, _server, caller) = embedded().await;
    let refused = caller.issue("ada", &"p".repeat(80_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    for size in [1_025, 60_000] {
        let refused = caller.issue("ada", &"p".repeat(size)).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::Unauthenticated | Code::InvalidArgument),
            "{size}: {refused:?}"
        );
        let refused = caller.issue(&"u".repeat(size), PASSWORD).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::Unauthenticated | Code::InvalidArgument),
            "{size}: {refused:?}"
        );
    }
    caller.login("ada").await;
}

#[tokio::test]
async fn bytes_that_are_not_a_message_or_utf8_are_a_client_error() {
    let (_deployment, server, caller) = embedded().await;
    let mut broken = RefreshRequest {
        refresh_token: "csr_abcdef".into(),
        ..RefreshRequest::default()
    }
    .encode_to_vec();
    let last = broken.len() - 1;
    broken[last] = 0xff;
    for bytes in [broken, vec![0xff; 40], b"\x0a\xff\xff\xff\xff\x7fshort".to_vec()] {
        let refused = call_with_bytes(&server, "/countersign.v1.TokenService/Refresh", bytes).await;
        // tonic decodes before our code runs, so the exact code is tonic's choice; there must be an error.
        assert!(
            matches!(refused.code(), Code::Internal | Code::InvalidArgument),
            "{refused:?}"
        );
        assert!(!refused.message().contains("panic"), "{refused:?}");
    }
    let unknown = call_with_bytes(&server, "/countersign.v1.TokenService/Guess", Vec::new()).await;
    assert_eq!(unknown.code(), Code::Unimplemented);
    let unknown = call_with_bytes(&server, "/countersign.v1.SecretService/Open", Vec::new()).await;
    assert_eq!(unknown.code(), Code::Unimplemented);
    caller.login("ada").await;
}

#[test]
fn a_configuration_with_an_unknown_or_wrong_key_is_refused_with_its_name() {
    use crate::support::serve::Storage;
    for (key, value, named) in [
        ("server.lisen", "127.0.0.1:0", "lisen"),
        ("tokens.access_ttl", "soon", "access_ttl"),
        ("tokens.algorithm", "HS256", "algorithm"),
        ("password.iterations", "0", "iterations"),
        ("storage.redis_url", "redis://localhost", "database_url"),
        ("keys.master_key", "short", "master_key"),
    ] {
        let refused = Storage::embedded().set(key, value).run(&["config", "check"]).finish();
        assert_eq!(refused.code(), Some(64), "{key}: {}", refused.stderr);
        assert!(refused.stderr.contains(named), "{key}: {}", refused.stderr);
    }
    let storage = Storage::embedded();
    let file = storage.folder().join("bad.toml");
    for (text, named) in [
        ("[tokens]\nacess_ttl = \"5m\"", "acess_ttl"),
        ("[token", "bad.toml"),
        ("\u{feff}\0", "bad.toml"),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = storage
            .run(&["config", "check", "--config", file.to_str().unwrap()])
            .finish();
        assert_eq!(refused.code(), Some(64), "{text:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(named), "{text:?}: {}", refused.stderr);
    }
    assert_eq!(storage.run(&["serve", "--no-such-flag"]).finish().code(), Some(64));
    assert_eq!(
        storage
            .run(&["config", "check", "--config", "missing.toml"])
            .finish()
            .code(),
        Some(64)
    );
}
