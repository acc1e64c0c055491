//! Rules that were once broken, tested from the outside.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{
    BeginPasswordResetRequest, ChangePasswordRequest, Client, CompletePasswordResetRequest, Grant, InactiveReason,
    RefreshOutcome, RefreshRequest, UpdateUserRequest, User,
};
use rstest::rstest;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::raw::with_bearer;
use crate::support::{Admin, Caller, Deployment, DeploymentKind, PASSWORD, assert_refused, eventually};

#[rstest]
#[tokio::test]
async fn a_refresh_never_gives_a_token_without_audience(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &["--admin"]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    admin.client("web", &[Grant::Password], &["*"], &["api", "shop"]).await;
    let both = admin.login("web", "ada", &[], &["api", "shop"]).await.unwrap();
    let one = admin.login("web", "ada", &[], &["api"]).await.unwrap();
    let own = admin.login("web", "ada", &["countersign:users"], &[]).await.unwrap();
    assert_eq!(own.audience, ["countersign"]);

    let changed = |audiences: &[&str]| Client {
        client_id: "web".into(),
        audiences: audiences.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    admin.update_client(changed(&["shop"]), &["audiences"]).await.unwrap();
    let (narrowed, _) = caller.refresh(&both.refresh_token).await.unwrap();
    assert_eq!(narrowed.audience, ["shop"], "a lost audience is left out silently");
    for _ in 0..2 {
        assert_refused(
            caller.refresh(&one.refresh_token).await,
            Code::PermissionDenied,
            "AUDIENCE_NOT_ALLOWED",
        );
    }
    let (own, _) = caller.refresh(&own.refresh_token).await.unwrap();
    assert_eq!(
        own.audience,
        ["countersign"],
        "a `countersign:` scope adds Countersign's audience"
    );
    caller.assert_active(&own.access_token).await;

    admin.update_client(changed(&["api"]), &["audiences"]).await.unwrap();
    let (back, _) = caller
        .refresh(&one.refresh_token)
        .await
        .expect("the session is unchanged");
    assert_eq!(back.audience, ["api"]);
    caller.assert_active(&back.access_token).await;
}

#[rstest]
#[tokio::test]
async fn countersigns_own_audience_is_checked_like_any_other(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    admin
        .client("web", &[Grant::Password], &["*"], &["api", "countersign"])
        .await;
    let tokens = admin.login("web", "ada", &[], &["api", "countersign"]).await.unwrap();
    let changed = Client {
        client_id: "web".into(),
        audiences: vec!["api".into()],
        ..Default::default()
    };
    admin.update_client(changed, &["audiences"]).await.unwrap();
    let asked = RefreshRequest {
        refresh_token: tokens.refresh_token.clone(),
        audience: vec!["countersign".into()],
        ..Default::default()
    };
    let refused = caller.tokens.clone().refresh(asked).await;
    assert_refused(refused, Code::PermissionDenied, "AUDIENCE_NOT_ALLOWED");
    let (narrowed, _) = caller.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(narrowed.audience, ["api"]);
}

#[rstest]
#[tokio::test]
async fn a_reset_begun_before_a_promotion_does_not_open_an_admin_account(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    let root = deployment.add_user("root", &["--admin"]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let token = admin.login("", "root", &["countersign:users"], &[]).await.unwrap();
    let begun = BeginPasswordResetRequest { user_id: ada.clone() };
    let begun = admin
        .users
        .clone()
        .begin_password_reset(begun)
        .await
        .unwrap()
        .into_inner();
    let promote = UpdateUserRequest {
        user: Some(User {
            user_id: ada,
            roles: vec!["admin".into()],
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["roles".into()],
        }),
    };
    let promoted = admin
        .users
        .clone()
        .update_user(with_bearer(promote, &token.access_token))
        .await;
    promoted.unwrap_or_else(|error| panic!("{root} may: {error:?}"));
    let complete = CompletePasswordResetRequest {
        reset_token: begun.reset_token,
        new_password: "another sentence of words".into(),
    };
    let refused = admin.users.clone().complete_password_reset(complete).await;
    assert_refused(refused, Code::Unauthenticated, "RESET_TOKEN_INVALID");
    admin
        .login("", "ada", &[], &[])
        .await
        .expect("the password is unchanged");
}

#[rstest]
#[tokio::test]
async fn a_stolen_access_token_does_not_help_guess_the_password(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.account_source", "10/24h");
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let stolen = admin.login("", "ada", &[], &[]).await.unwrap().access_token;
    let guess = async |old: &str| {
        let request = ChangePasswordRequest {
            user_id: ada.clone(),
            old_password: old.to_owned(),
            new_password: "another sentence of words".into(),
            ..Default::default()
        };
        admin.users.clone().change_password(with_bearer(request, &stolen)).await
    };
    for n in 0..12 {
        let refused = guess(&format!("guess {n}")).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
    assert_refused(guess(PASSWORD).await, Code::Unauthenticated, "INVALID_CREDENTIALS");
    eventually("the audit row is written", Duration::from_secs(20), || async {
        (!admin.events("login.throttled").await.is_empty()).then_some(())
    })
    .await;
    let login = admin.login("", "ada", &[], &[]).await;
    assert_refused(login, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_guesses_are_limited_like_sequential_ones(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.account_source", "10/1h")
        .set("throttle.source", "1000/1m")
        .set("password.queue", "256");
    deployment.add_user("ada", &[]);
    deployment.add_user("ben", &[]);
    let servers: Vec<_> = (0..if deployment_kind == DeploymentKind::Embedded {
        1
    } else {
        2
    })
        .map(|_| deployment.serve())
        .collect();
    let callers: Vec<Caller> = servers.iter().map(Caller::of).collect();
    let all_at_once = async |name: &'static str, password: &'static str| {
        let mut attempts = JoinSet::new();
        for n in 0..64 {
            let caller = callers[n % callers.len()].clone();
            attempts.spawn(async move { caller.issue(name, password).await.is_ok() });
        }
        attempts.join_all().await.into_iter().filter(|good| *good).count()
    };
    assert_eq!(all_at_once("ada", "a guess that is wrong").await, 0);
    if deployment_kind == DeploymentKind::Embedded {
        assert_eq!(
            all_at_once("ben", PASSWORD).await,
            64,
            "concurrent correct passwords do not limit each other"
        );
    }
    // Of many failures, only the first have rows of their own; the last rows are written when the replica ends.
    for server in servers {
        assert!(server.stop().success());
    }
    let recorded = |kind: &str| -> f64 {
        let listed = deployment.storage.run(&["audit", "query", "--type", kind]).json();
        let count = |event: &serde_json::Value| event["details"]["count"].as_f64().unwrap_or(1.0);
        listed["events"].as_array().unwrap().iter().map(count).sum()
    };
    assert!((recorded("token.issue.failed") - 10.0).abs() < 0.5);
    assert!((recorded("login.throttled") - 54.0).abs() < 0.5);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_session_limit_holds_under_concurrent_logins(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("tokens.max_sessions_per_user", "3");
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let list = async || {
        let request = countersign::proto::ListSessionsRequest { user_id: ada.clone() };
        admin
            .users
            .clone()
            .list_sessions(request)
            .await
            .unwrap()
            .into_inner()
            .sessions
    };
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(caller.login("ada").await);
        assert!(list().await.len() <= 3);
    }
    for old in &held[..3] {
        assert_eq!(
            caller.inactive_reason(&old.access_token).await,
            Some(InactiveReason::Revoked)
        );
    }
    let mut logins = JoinSet::new();
    for n in 0..40_u64 {
        let caller = Caller::with_deadline(
            &server.grpc_url(),
            std::time::Duration::from_millis(if n % 2 == 0 { 10_000 } else { 5 + n }),
        );
        logins.spawn(async move { caller.issue("ada", PASSWORD).await.is_ok() });
    }
    logins.join_all().await;
    crate::support::eventually(
        "cancelled logins left no session",
        std::time::Duration::from_secs(10),
        || async { (list().await.len() <= 3).then_some(()) },
    )
    .await;
}

#[rstest]
#[tokio::test]
async fn a_refresh_with_a_too_large_token_rotates_nothing(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    deployment.add_user("root", &["--admin"]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let root = admin
        .login("default", "root", &["countersign:users"], &[])
        .await
        .unwrap();
    let become_of = async |roles: Vec<String>, note: usize| {
        let note = prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue("x".repeat(note))),
        };
        let update = UpdateUserRequest {
            user: Some(User {
                user_id: ada.clone(),
                roles,
                attributes: Some(prost_types::Struct {
                    fields: [("note".to_owned(), note)].into(),
                }),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["roles".into(), "attributes".into()],
            }),
        };
        admin
            .users
            .clone()
            .update_user(with_bearer(update, &root.access_token))
            .await
            .unwrap();
    };

    let first = caller.login("ada").await;
    become_of((0..32).map(|n| format!("r{n:0>59}")).collect(), 900).await;
    for _ in 0..3 {
        let refused = caller.refresh(&first.refresh_token).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    become_of(vec!["editor".into()], 900).await;
    let (second, outcome) = caller.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Rotated, "the session was not rotated");
    caller.assert_active(&second.access_token).await;
}

#[rstest]
#[tokio::test]
async fn a_revoked_session_is_not_counted_again(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let [by_client, by_token] = [caller.login("ada").await, caller.login("ada").await];
    assert_eq!(
        caller
            .revoke(Target::Token(by_token.access_token.clone()))
            .await
            .unwrap(),
        1
    );
    assert_eq!(caller.revoke(Target::Token(by_token.refresh_token)).await.unwrap(), 0);
    caller.revoke(Target::ClientId("default".into())).await.unwrap();
    for token in [by_client.access_token, by_client.refresh_token] {
        assert_eq!(caller.revoke(Target::Token(token)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_unknown_countersign_scope_is_refused() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("root", &["--admin"]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    assert_refused(
        admin.login("default", "root", &["countersign:everything"], &[]).await,
        Code::PermissionDenied,
        "SCOPE_NOT_ALLOWED",
    );
}
