//! Issue, Validate and Refresh on every kind of store.

use std::collections::HashSet;

use countersign::proto::{InactiveReason, RefreshOutcome, ValidateBatchRequest, ValidateRequest};
use rstest::rstest;
use tonic::Code;

use crate::support::caller::{generation, refresh_bytes};
use crate::support::deployment::PASSWORD;
use crate::support::{Caller, Deployment, DeploymentKind, assert_refused};

#[rstest]
#[tokio::test]
async fn a_login_gives_valid_tokens_with_the_right_claims(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let user = deployment.add_user("ada", &["--role", "editor"]);
    let server = deployment.serve();
    let caller = Caller::of(&server);

    let tokens = caller.login("ada").await;
    assert_eq!(tokens.token_type, "Bearer");
    assert_eq!(tokens.audience, ["api"]);
    assert!(tokens.refresh_token.starts_with("csr_"));
    let seconds = |at: Option<prost_types::Timestamp>| at.expect("the timestamp is set").seconds;
    let issued = {
        let answer = caller.validate(&tokens.access_token).await.unwrap();
        assert!(answer.active, "{answer:?}");
        let claims = answer.claims.unwrap();
        assert_eq!(claims.issuer, "https://countersign.local");
        assert_eq!((&claims.subject, &claims.session_id), (&user, &tokens.session_id));
        assert_eq!(
            (claims.client_id.as_str(), claims.audience),
            ("default", tokens.audience)
        );
        assert_eq!(claims.roles, ["editor"]);
        assert_eq!(claims.expires_at, tokens.access_expires_at);
        assert_eq!(claims.auth_time, claims.issued_at);
        assert!(claims.actor.is_none());
        let as_of = seconds(answer.revocations_as_of);
        assert!(seconds(answer.cache_until) >= as_of);
        seconds(claims.issued_at)
    };
    let life = seconds(tokens.access_expires_at) - issued;
    assert!((850..=900).contains(&life), "15 minutes less jitter: {life}");
    let refresh = seconds(tokens.refresh_after) - issued;
    assert!(
        refresh * 100 >= life * 69 && refresh * 100 <= life * 86,
        "{refresh} of {life}"
    );
    // The token is dated before the session is stored, and a second may begin between the two.
    let idle = seconds(tokens.refresh_expires_at) - issued;
    assert!((7 * 86_400..=7 * 86_400 + 30).contains(&idle), "{idle}");
    assert_eq!(seconds(tokens.session_expires_at) - issued, 30 * 86_400);
}

#[rstest]
#[tokio::test]
async fn a_refresh_rotates_and_its_repetition_gets_the_same_bytes(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);

    let first = caller.login("ada").await;
    assert_eq!(generation(&first.refresh_token), 0);
    let (second, outcome) = caller.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Rotated);
    assert_eq!(generation(&second.refresh_token), 1);
    assert_eq!(second.session_id, first.session_id);
    assert_eq!(second.session_expires_at, first.session_expires_at);
    caller.assert_active(&second.access_token).await;
    caller.assert_active(&first.access_token).await;

    let (again, outcome) = caller.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Replayed);
    assert_eq!(again.refresh_token, second.refresh_token);
    assert_eq!(again.refresh_expires_at, second.refresh_expires_at);
    assert_ne!(again.access_token, second.access_token);
    caller.assert_active(&again.access_token).await;

    let (third, outcome) = caller.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(
        (outcome, generation(&third.refresh_token)),
        (RefreshOutcome::Rotated, 2)
    );
}

#[rstest]
#[tokio::test]
async fn a_reused_token_revokes_the_session_for_refresh_and_validate(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);

    // The grandparent, which no grace covers.
    let first = caller.login("ada").await;
    let (second, _) = caller.refresh(&first.refresh_token).await.unwrap();
    let (third, _) = caller.refresh(&second.refresh_token).await.unwrap();
    let other = caller.login("ada").await;
    assert_refused(
        caller.refresh(&first.refresh_token).await,
        Code::Unauthenticated,
        "REFRESH_TOKEN_REUSED",
    );
    for tokens in [&first, &second, &third] {
        assert_eq!(
            caller.inactive_reason(&tokens.access_token).await,
            Some(InactiveReason::Revoked)
        );
        assert_refused(
            caller.refresh(&tokens.refresh_token).await,
            Code::Unauthenticated,
            "SESSION_REVOKED",
        );
    }
    caller.assert_active(&other.access_token).await;
    caller.refresh(&other.refresh_token).await.unwrap();

    // The parent, within the grace, but with another attempt id: the default policy is STRICT.
    let first = caller.login("ada").await;
    caller.refresh_as(&first.refresh_token, "one").await.unwrap();
    caller.refresh_as(&first.refresh_token, "one").await.unwrap();
    let other = caller.refresh_as(&first.refresh_token, "two").await;
    assert_refused(other, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
    let once_more = caller.refresh_as(&first.refresh_token, "one").await;
    assert_refused(once_more, Code::Unauthenticated, "SESSION_REVOKED");
    assert_eq!(
        caller.inactive_reason(&first.access_token).await,
        Some(InactiveReason::Revoked)
    );
}

#[rstest]
#[tokio::test]
async fn each_kind_of_invalid_token_has_its_own_reason(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;

    assert_eq!(
        caller.inactive_reason(&tokens.refresh_token).await,
        Some(InactiveReason::WrongType)
    );
    assert_eq!(caller.inactive_reason("garbage").await, Some(InactiveReason::Malformed));
    assert_eq!(
        caller.inactive_reason(&"a".repeat(4097)).await,
        Some(InactiveReason::Malformed)
    );
    let (signed, signature) = tokens.access_token.rsplit_once('.').unwrap();
    let turned = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{turned}{}", &signature[1..]);
    assert_eq!(
        caller.inactive_reason(&forged).await,
        Some(InactiveReason::BadSignature)
    );
    assert_refused(caller.validate("").await, Code::InvalidArgument, "INVALID_REQUEST");

    let malformed = |token: String| {
        let caller = caller.clone();
        async move {
            assert_refused(
                caller.refresh(&token).await,
                Code::Unauthenticated,
                "REFRESH_TOKEN_MALFORMED",
            );
        }
    };
    malformed(tokens.access_token.clone()).await;
    malformed("csr_".to_owned()).await;
    malformed(format!("csr_{}", "A".repeat(10_000))).await;
    let mut token = tokens.refresh_token.clone().into_bytes();
    let middle = token.len() / 2;
    token[middle] = if token[middle] == b'A' { b'B' } else { b'A' };
    malformed(String::from_utf8(token).unwrap()).await;
    assert_refused(caller.refresh("").await, Code::InvalidArgument, "INVALID_REQUEST");
    caller
        .refresh(&tokens.refresh_token)
        .await
        .expect("the session is unaffected");

    let asked = |audience: &str, scope: &[&str]| {
        let mut stub = caller.tokens.clone();
        let request = ValidateRequest {
            access_token: tokens.access_token.clone(),
            audience: audience.to_owned(),
            required_scopes: scope.iter().map(ToString::to_string).collect(),
            ..ValidateRequest::default()
        };
        async move { stub.validate(request).await.unwrap().into_inner() }
    };
    assert!(asked("api", &[]).await.active);
    assert_eq!(
        asked("elsewhere", &["orders:read"]).await.reason(),
        InactiveReason::WrongAudience
    );
    assert_eq!(
        asked("api", &["orders:read"]).await.reason(),
        InactiveReason::InsufficientScope
    );
}

#[rstest]
#[tokio::test]
async fn a_batch_has_its_answers_in_the_order_of_its_requests(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let good = caller.login("ada").await.access_token;
    let batch = |size: usize| {
        let token = |n: usize| {
            if n.is_multiple_of(2) {
                good.clone()
            } else {
                format!("{n}")
            }
        };
        let request = |n| ValidateRequest {
            access_token: token(n),
            ..ValidateRequest::default()
        };
        let mut stub = caller.tokens.clone();
        let batch = ValidateBatchRequest {
            requests: (0..size).map(request).collect(),
        };
        async move {
            stub.validate_batch(batch)
                .await
                .map(|answer| answer.into_inner().responses)
        }
    };
    let answers = batch(256).await.unwrap();
    assert!(
        answers
            .iter()
            .enumerate()
            .all(|(n, answer)| answer.active == (n.is_multiple_of(2)))
    );
    assert_eq!(answers.len(), 256);
    assert_refused(batch(257).await, Code::InvalidArgument, "INVALID_REQUEST");
}

#[rstest]
#[tokio::test]
async fn a_refused_login_reveals_no_cause(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    deployment.add_user("gone", &[]);
    deployment.storage.run(&["user", "disable", "gone"]).succeed();
    let server = deployment.serve();
    let caller = Caller::of(&server);

    let mut answers = HashSet::new();
    for (name, password) in [("ada", "wrong password here"), ("nobody", PASSWORD), ("gone", PASSWORD)] {
        let refused = caller.issue(name, password).await.unwrap_err();
        answers.insert((refused.message().to_owned(), refused.details().to_vec()));
        assert_refused::<()>(Err(refused), Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
    assert_eq!(
        answers.len(),
        1,
        "message and details must not tell the cause: {answers:?}"
    );
}

#[rstest]
#[tokio::test]
async fn every_session_has_a_secret_of_its_own(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let (one, other) = (caller.login("ada").await, caller.login("ada").await);
    assert_ne!(one.session_id, other.session_id);

    // The session id of one login with the secret of another: the tag cannot match.
    let mut crossed = refresh_bytes(&one.refresh_token);
    crossed[21..37].copy_from_slice(&refresh_bytes(&other.refresh_token)[21..37]);
    let end = crossed.len() - 4;
    let crc = crc32fast::hash(&crossed[..end]);
    crossed[end..].copy_from_slice(&crc.to_be_bytes());
    let crossed = crate::support::caller::refresh_text(&crossed);
    assert_refused(
        caller.refresh(&crossed).await,
        Code::Unauthenticated,
        "REFRESH_TOKEN_MALFORMED",
    );
    for session in [one, other] {
        caller.refresh(&session.refresh_token).await.unwrap();
    }
}
