//! The client library with a real server: sessions that refresh themselves, a verifier, and guards for axum and
//! tonic.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use countersign::client::{Claims, Client, Credential, GuardLayer, InactiveReason, Refused, Verifier, VerifierConfig};
use countersign::proto::revoke_request::Target;
use http::{Request, StatusCode, header};
use tonic::{Code, Status};
use tower::{Layer as _, Service as _, ServiceExt as _};

use crate::support::caller::{generation, reason};
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, PASSWORD, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);
const ISSUER: &str = "https://countersign.local";

/// A client library instance with its own client secret, although the server's anonymous scopes would suffice.
fn client_with_secret(deployment: &Deployment, server: &Countersign, scopes: &[&str]) -> Client {
    let mut words = vec!["client", "add", "machine", "--grant", "client_secret"];
    words.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let secret = deployment.storage.run(&words).json()["clientSecret"]
        .as_str()
        .unwrap()
        .to_owned();
    Client::builder(server.grpc_url())
        .credential(Credential::Secret {
            client_id: "machine".to_owned(),
            secret: secret.into(),
            scope: scopes.iter().map(ToString::to_string).collect(),
        })
        .deadline(TIMEOUT)
        .connect_lazy()
        .unwrap()
}

#[tokio::test]
async fn a_session_is_refreshed_once_before_it_expires() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("tokens.access_ttl", "10s")
        .set("tokens.access_jitter", "0");
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let client = Client::builder(server.grpc_url())
        .deadline(TIMEOUT)
        .connect_lazy()
        .unwrap();
    let session = client.log_in("ada", PASSWORD).await.unwrap();
    let first = session.access_token().await.unwrap();
    let renewed = eventually("the token is renewed", TIMEOUT, || async {
        // Fifty callers at a time: they go on with the old token while one of them refreshes.
        let tokens = futures_util::future::join_all((0..50).map(|_| session.access_token())).await;
        let token = tokens.into_iter().map(Result::unwrap).last().unwrap();
        (token != first).then_some(token)
    })
    .await;
    let tokens = session.tokens();
    assert_eq!(generation(&tokens.refresh_token), 1, "refreshed once");
    assert_eq!(renewed.expose(), tokens.access_token);
    Caller::of(&server).assert_active(first.expose()).await;

    // Revoked elsewhere: the session reports that it is over, and stays so.
    Caller::of(&server)
        .revoke(Target::Token(tokens.refresh_token))
        .await
        .unwrap();
    let over = eventually("the session is over", TIMEOUT, || async {
        session.access_token().await.err()
    })
    .await;
    assert_eq!(reason(&over), (Code::Unauthenticated, "SESSION_REVOKED".to_owned()));
    assert_eq!(session.access_token().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_verifier_learns_of_revocations_and_of_key_changes() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let client = client_with_secret(&deployment, &server, &["countersign:watch", "countersign:validate"]);
    let verifier = Verifier::start(client, VerifierConfig::new(ISSUER));
    tokio::time::timeout(TIMEOUT, verifier.ready()).await.unwrap();
    let tokens = caller.login("ada").await;
    let claims = verifier.verify(&tokens.access_token, "api", &[]).await.unwrap();
    assert_eq!(claims.sid.unwrap().to_string(), tokens.session_id);
    let age = verifier.staleness().expect("the verifier is ready");
    assert!(age < Duration::from_secs(30), "{age:?}");

    caller.revoke(Target::Token(tokens.access_token.clone())).await.unwrap();
    eventually("the verifier learns of the revocation", TIMEOUT, || async {
        let verdict = verifier.verify(&tokens.access_token, "", &[]).await;
        matches!(verdict, Err(Refused::Inactive(InactiveReason::Revoked))).then_some(())
    })
    .await;

    let other = caller.login("ada").await;
    assert!(verifier.verify(&other.access_token, "", &[]).await.is_ok());
    let key = caller
        .validate(&other.access_token)
        .await
        .unwrap()
        .claims
        .unwrap()
        .key_id;
    deployment.storage.run(&["key", "revoke", &key]).succeed();
    eventually("the verifier learns of the key", TIMEOUT, || async {
        let verdict = verifier.verify_local(&other.access_token, "", &[]);
        matches!(verdict, Some(Err(InactiveReason::RevokedKey))).then_some(())
    })
    .await;
    // A token of a revoked key that the verifier has never seen is told from one of an unknown key.
    eventually("the key set has the revoked key", TIMEOUT, || async {
        let verdict = verifier.verify_local(&tokens.access_token, "", &[]);
        matches!(verdict, Some(Err(InactiveReason::RevokedKey))).then_some(())
    })
    .await;
}

/// A verifier that may not watch, or has lost its stream for too long, calls Validate: the answers are the same, one
/// call later.
#[tokio::test]
async fn a_verifier_without_a_stream_calls_validate_and_a_guard_reports_an_outage() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let client = client_with_secret(&deployment, &server, &["countersign:validate"]);
    let verifier = Verifier::start(client, VerifierConfig::new(ISSUER));
    let tokens = caller.login("ada").await;
    let token = tokens.access_token.as_str();
    let claims = verifier.verify(token, "api", &[]).await.unwrap();
    assert_eq!(claims.sid.unwrap().to_string(), tokens.session_id);
    assert!(verifier.verify_local(token, "api", &[]).is_none() && !verifier.is_ready());
    assert_eq!(verifier.staleness(), None);
    let refused = verifier.verify(token, "mail", &[]).await;
    assert!(matches!(refused, Err(Refused::Inactive(InactiveReason::WrongAudience))));
    caller.revoke(Target::Token(token.to_owned())).await.unwrap();
    let refused = verifier.verify(token, "api", &[]).await;
    assert!(matches!(refused, Err(Refused::Inactive(InactiveReason::Revoked))));

    server.kill();
    let inner = tower::service_fn(|_: Request<()>| async move {
        Ok::<_, Infallible>(http::Response::new(tonic::body::Body::default()))
    });
    let mut service = GuardLayer::new(verifier, "api", &[]).layer(inner);
    let mut ask = async |kind: &str, tokens: &[&str]| {
        let mut request = Request::post("/shop.Orders/List").header(header::CONTENT_TYPE, kind);
        for token in tokens {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(()).unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        let said = Status::from_header_map(answer.headers()).map(|status| reason(&status));
        (answer.status(), said)
    };
    let (json, grpc) = ("application/json", "application/grpc");
    let error = |code, why: &str| (StatusCode::OK, Some((code, why.to_owned())));
    assert_eq!(ask(json, &[token]).await, (StatusCode::SERVICE_UNAVAILABLE, None));
    assert_eq!(ask(grpc, &[token]).await, error(Code::Unavailable, "REVOCATIONS_STALE"));
    for tokens in [&[][..], &[token, token]] {
        assert_eq!(ask(json, tokens).await, (StatusCode::UNAUTHORIZED, None));
        assert_eq!(
            ask(grpc, tokens).await,
            error(Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
        );
    }
}

/// A verifier for tokens with the scope `orders:read`, such a token, and one without the scope.
async fn guard_fixture() -> (Countersign, Deployment, Verifier, String, String) {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    deployment
        .storage
        .run(&["client", "update", "default", "--scope", "orders:read"])
        .succeed();
    let server = deployment.serve();
    let verifier = Verifier::start(
        client_with_secret(&deployment, &server, &["countersign:watch"]),
        VerifierConfig::new(ISSUER),
    );
    tokio::time::timeout(TIMEOUT, verifier.ready()).await.unwrap();
    let caller = Caller::of(&server);
    // A login that requests no scope gets the scopes that its client lists.
    let with = caller.login("ada").await.access_token;
    deployment
        .storage
        .run(&["client", "update", "default", "--scope", "*"])
        .succeed();
    let without = caller.login("ada").await.access_token;
    (server, deployment, verifier, with, without)
}

#[tokio::test]
async fn guards_answer_in_the_protocol_of_axum_and_tonic() {
    let (_server, _deployment, verifier, with, without) = guard_fixture().await;
    let layer = GuardLayer::new(verifier, "api", &["orders:read"]);
    let show_caller = |request: Request<axum::body::Body>| async move {
        request
            .extensions()
            .get::<Arc<Claims>>()
            .map(|claims| claims.sub.clone())
            .unwrap_or_default()
    };
    let mut router = Router::new().route("/orders", get(show_caller)).layer(layer.clone());
    let mut http = async |token: Option<&str>| {
        let mut request = Request::get("/orders");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = router
            .call(request.body(axum::body::Body::empty()).unwrap())
            .await
            .unwrap();
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default();
        (answer.status(), challenge)
    };
    assert_eq!(http(Some(&with)).await, (StatusCode::OK, String::new()));
    assert_eq!(http(None).await, (StatusCode::UNAUTHORIZED, "Bearer".to_owned()));
    let (status, challenge) = http(Some("garbage")).await;
    assert_eq!(
        (status, challenge.as_str()),
        (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\"")
    );
    let (status, challenge) = http(Some(&without)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(challenge, "Bearer error=\"insufficient_scope\", scope=\"orders:read\"");

    let inner = tower::service_fn(|request: Request<()>| async move {
        assert!(request.extensions().get::<Arc<Claims>>().is_some());
        Ok::<_, Infallible>(http::Response::new(tonic::body::Body::default()))
    });
    let mut service = layer.layer(inner);
    let mut grpc = async |token: &str| {
        let request = Request::post("/shop.Orders/List")
            .header(header::CONTENT_TYPE, "application/grpc+proto")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(())
            .unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "a gRPC error has HTTP status 200");
        Status::from_header_map(answer.headers()).map(|status| reason(&status))
    };
    assert_eq!(grpc(&with).await, None);
    let error = |code, why: &str| Some((code, why.to_owned()));
    assert_eq!(
        grpc("garbage").await,
        error(Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
    );
    assert_eq!(
        grpc(&without).await,
        error(Code::PermissionDenied, "CALLER_NOT_ALLOWED")
    );
}
