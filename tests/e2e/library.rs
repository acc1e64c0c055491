//! The client library, against a real server: sessions that stay fresh, a verifier, a guard before a service.

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
use crate::support::{Caller, Countersign, Deployment, PASSWORD, Shape, eventually};

const PATIENCE: Duration = Duration::from_secs(20);
const ISSUER: &str = "https://countersign.local";

/// A client with a secret of its own; the server's anonymous scopes would do without.
fn machine(deployment: &Deployment, server: &Countersign, scopes: &[&str]) -> Client {
    let mut words = vec!["client", "add", "machine", "--grant", "client_secret"];
    words.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let secret = deployment.storage.run(&words).json()["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    Client::builder(server.grpc_url())
        .credential(Credential::Secret {
            client_id: "machine".to_owned(),
            secret: secret.into(),
            scope: scopes.iter().map(ToString::to_string).collect(),
        })
        .deadline(PATIENCE)
        .connect_lazy()
        .unwrap()
}

#[tokio::test]
async fn a_session_is_refreshed_ahead_of_time_and_once() {
    let deployment = Deployment::fresh(Shape::Embedded)
        .await
        .set("tokens.access_ttl", "10s")
        .set("tokens.access_jitter", "0");
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let client = Client::builder(server.grpc_url())
        .deadline(PATIENCE)
        .connect_lazy()
        .unwrap();
    let session = client.log_in("ada", PASSWORD).await.unwrap();
    let first = session.access_token().await.unwrap();
    let renewed = eventually("the token is renewed", PATIENCE, || async {
        // Fifty callers at a time: they go on with the old one, and one of them has it renewed.
        let tokens = futures_util::future::join_all((0..50).map(|_| session.access_token())).await;
        let token = tokens.into_iter().map(Result::unwrap).last().unwrap();
        (token != first).then_some(token)
    })
    .await;
    let tokens = session.tokens();
    assert_eq!(generation(&tokens.refresh_token), 1, "refreshed once");
    assert_eq!(renewed.expose(), tokens.access_token);
    Caller::of(&server).assert_active(first.expose()).await;

    // Ended elsewhere: told as such, and for good.
    Caller::of(&server)
        .revoke(Target::Token(tokens.refresh_token))
        .await
        .unwrap();
    let over = eventually("the session is over", PATIENCE, || async {
        session.access_token().await.err()
    })
    .await;
    assert_eq!(reason(&over), (Code::Unauthenticated, "SESSION_REVOKED".to_owned()));
    assert_eq!(session.access_token().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_verifier_knows_of_revocations_and_of_what_became_of_keys() {
    let deployment = Deployment::fresh(Shape::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let client = machine(&deployment, &server, &["countersign:watch", "countersign:validate"]);
    let verifier = Verifier::start(client, VerifierConfig::new(ISSUER));
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let tokens = caller.login("ada").await;
    let claims = verifier.verify(&tokens.access_token, "api", &[]).await.unwrap();
    assert_eq!(claims.sid.unwrap().to_string(), tokens.session_id);
    let age = verifier.staleness().expect("it is ready");
    assert!(age < Duration::from_secs(30), "{age:?}");

    caller.revoke(Target::Token(tokens.access_token.clone())).await.unwrap();
    eventually("it hears of the revocation", PATIENCE, || async {
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
    eventually("it hears of the key", PATIENCE, || async {
        let verdict = verifier.verify_local(&other.access_token, "", &[]);
        matches!(verdict, Some(Err(InactiveReason::RevokedKey))).then_some(())
    })
    .await;
    // A token of that key which it has never seen is told from one of a key that never was.
    eventually("the key set says so too", PATIENCE, || async {
        let verdict = verifier.verify_local(&tokens.access_token, "", &[]);
        matches!(verdict, Some(Err(InactiveReason::RevokedKey))).then_some(())
    })
    .await;
}

/// What may not watch, or has lost its stream for too long, asks: the answers are the same, one call later.
#[tokio::test]
async fn a_verifier_without_knowledge_asks_and_a_guard_says_when_nobody_can_tell() {
    let deployment = Deployment::fresh(Shape::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let client = machine(&deployment, &server, &["countersign:validate"]);
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
    let told = |code, why: &str| (StatusCode::OK, Some((code, why.to_owned())));
    assert_eq!(ask(json, &[token]).await, (StatusCode::SERVICE_UNAVAILABLE, None));
    assert_eq!(ask(grpc, &[token]).await, told(Code::Unavailable, "REVOCATIONS_STALE"));
    for tokens in [&[][..], &[token, token]] {
        assert_eq!(ask(json, tokens).await, (StatusCode::UNAUTHORIZED, None));
        assert_eq!(
            ask(grpc, tokens).await,
            told(Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
        );
    }
}

/// A verifier for tokens that carry the scope `orders:read`, such a token, and one without.
async fn guarded() -> (Countersign, Deployment, Verifier, String, String) {
    let deployment = Deployment::fresh(Shape::Embedded).await;
    deployment.add_user("ada", &[]);
    deployment
        .storage
        .run(&["client", "update", "default", "--scope", "orders:read"])
        .succeed();
    let server = deployment.serve();
    let verifier = Verifier::start(
        machine(&deployment, &server, &["countersign:watch"]),
        VerifierConfig::new(ISSUER),
    );
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let caller = Caller::of(&server);
    // What a login gets that asks for nothing: the scopes that its client lists.
    let with = caller.login("ada").await.access_token;
    deployment
        .storage
        .run(&["client", "update", "default", "--scope", "*"])
        .succeed();
    let without = caller.login("ada").await.access_token;
    (server, deployment, verifier, with, without)
}

#[tokio::test]
async fn a_guard_before_axum_and_tonic_answers_in_the_words_of_each() {
    let (_server, _deployment, verifier, with, without) = guarded().await;
    let layer = GuardLayer::new(verifier, "api", &["orders:read"]);
    let who = |request: Request<axum::body::Body>| async move {
        request
            .extensions()
            .get::<Arc<Claims>>()
            .map(|claims| claims.sub.clone())
            .unwrap_or_default()
    };
    let mut router = Router::new().route("/orders", get(who)).layer(layer.clone());
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
        assert_eq!(answer.status(), StatusCode::OK, "gRPC says it in its own status");
        Status::from_header_map(answer.headers()).map(|status| reason(&status))
    };
    assert_eq!(grpc(&with).await, None);
    let told = |code, why: &str| Some((code, why.to_owned()));
    assert_eq!(
        grpc("garbage").await,
        told(Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
    );
    assert_eq!(grpc(&without).await, told(Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
}
