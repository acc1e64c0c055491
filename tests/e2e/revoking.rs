//! Revoke, and everything else that ends sessions, on every kind of store.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, RevokeRequest, Tokens};
use rstest::rstest;
use tonic::Code;

use crate::support::{Admin, Caller, Deployment, DeploymentKind, assert_refused, eventually};

async fn assert_revoked(caller: &Caller, tokens: &Tokens) {
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

async fn assert_session_active(caller: &Caller, tokens: &Tokens) {
    caller.assert_active(&tokens.access_token).await;
    caller
        .refresh(&tokens.refresh_token)
        .await
        .expect("the session is active");
}

#[rstest]
#[tokio::test]
async fn a_token_of_any_kind_and_generation_revokes_only_its_session(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let bystander = caller.login("ada").await;

    let session = caller.login("ada").await;
    assert_eq!(
        caller
            .revoke(Target::Token(session.access_token.clone()))
            .await
            .unwrap(),
        1
    );
    assert_revoked(&caller, &session).await;

    let old = caller.login("ada").await;
    let (middle, _) = caller.refresh(&old.refresh_token).await.unwrap();
    let (new, _) = caller.refresh(&middle.refresh_token).await.unwrap();
    // A token three generations old is no reuse here: its holder may revoke the session.
    assert_eq!(
        caller.revoke(Target::Token(old.refresh_token.clone())).await.unwrap(),
        1
    );
    for tokens in [&old, &middle, &new] {
        assert_revoked(&caller, tokens).await;
    }

    for again in [
        old.refresh_token,
        new.access_token,
        "no token at all".into(),
        "x".repeat(9_000),
    ] {
        assert_eq!(caller.revoke(Target::Token(again)).await.unwrap(), 0);
    }
    assert_session_active(&caller, &bystander).await;
}

#[rstest]
#[tokio::test]
async fn a_session_is_revoked_by_its_id(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let (session, bystander) = (caller.login("ada").await, caller.login("ada").await);
    caller
        .revoke(Target::SessionId(session.session_id.clone()))
        .await
        .unwrap();
    assert_revoked(&caller, &session).await;
    assert_session_active(&caller, &bystander).await;
    let unknown = "0190b6a8-1111-7000-8000-000000000000".to_owned();
    assert_eq!(caller.revoke(Target::SessionId(unknown)).await.unwrap(), 0);
}

#[rstest]
#[tokio::test]
async fn a_second_revocation_of_a_session_is_neither_recorded_nor_announced(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (caller, admin) = (Caller::of(&server), Admin::of(&server));
    let announced = || match &deployment.keys {
        Some(keys) => keys
            .at(&["XLEN", &format!("{}:revocations", keys.prefix())])
            .parse()
            .unwrap(),
        None => 0,
    };
    let session = caller.login("ada").await;
    assert_eq!(
        caller
            .revoke(Target::Token(session.refresh_token.clone()))
            .await
            .unwrap(),
        1
    );
    let before: u32 = announced();
    assert_eq!(before, u32::from(deployment.keys.is_some()));
    for again in [
        Target::Token(session.refresh_token.clone()),
        Target::Token(session.access_token.clone()),
        Target::SessionId(session.session_id.clone()),
    ] {
        assert_eq!(caller.revoke(again).await.unwrap(), 0);
    }
    assert_eq!(admin.events("session.revoked").await.len(), 1);
    assert_eq!(announced(), before);
    assert_revoked(&caller, &session).await;

    // A login under way may have read the previous epochs, so a user is revoked each time.
    for _ in 0..2 {
        caller.revoke(Target::UserId(ada.clone())).await.unwrap();
    }
    assert_eq!(admin.events("user.sessions_revoked").await.len(), 2);
}

#[rstest]
#[tokio::test]
async fn all_sessions_of_a_user_are_revoked_or_all_but_one(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    deployment.add_user("ben", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let (kept, ended) = (caller.login("ada").await, caller.login("ada").await);
    let bystander = caller.login("ben").await;

    let request = RevokeRequest {
        target: Some(Target::UserId(ada.clone())),
        keep_session_id: kept.session_id.clone(),
        ..RevokeRequest::default()
    };
    let answer = caller.tokens.clone().revoke(request).await.unwrap().into_inner();
    assert_eq!(answer.sessions_revoked, 1);
    assert_revoked(&caller, &ended).await;
    assert_session_active(&caller, &kept).await;

    // A login right after the revocation is unaffected; clocks could not tell the order.
    let since = caller.login("ada").await;
    assert_session_active(&caller, &since).await;
    assert_eq!(caller.revoke(Target::UserId(ada)).await.unwrap(), 2);
    assert_revoked(&caller, &kept).await;
    assert_revoked(&caller, &since).await;
    assert_session_active(&caller, &bystander).await;
    let again = caller.login("ada").await;
    assert_session_active(&caller, &again).await;
}

#[rstest]
#[tokio::test]
async fn all_sessions_of_a_client_and_of_the_service_can_be_revoked(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    for target in [Target::ClientId("default".into()), Target::Everything(true)] {
        let session = caller.login("ada").await;
        caller.revoke(target).await.unwrap();
        assert_revoked(&caller, &session).await;
        assert_session_active(&caller, &caller.login("ada").await).await;
    }
    assert_refused(
        caller.revoke(Target::UserId("ada".into())).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    let none = caller.tokens.clone().revoke(RevokeRequest::default()).await;
    assert_refused(none, Code::InvalidArgument, "INVALID_REQUEST");
}

#[rstest]
#[tokio::test]
async fn disabling_a_user_by_command_revokes_their_sessions_on_a_running_server(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    deployment.storage.run(&["user", "disable", "ada"]).succeed();
    assert_refused(
        caller.refresh(&session.refresh_token).await,
        Code::Unauthenticated,
        "USER_DISABLED",
    );
    caller.until_revoked(&session.access_token).await;
}

#[rstest]
#[tokio::test]
async fn another_replica_learns_of_a_revocation(
    #[values(DeploymentKind::Clustered, DeploymentKind::RedisCluster)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let (one, other) = (deployment.serve(), deployment.serve());
    let (here, there) = (Caller::of(&one), Caller::of(&other));
    let session = here.login("ada").await;
    eventually("the other replica knows the key", Duration::from_secs(10), || async {
        there
            .inactive_reason(&session.access_token)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    here.revoke(Target::Token(session.access_token.clone())).await.unwrap();
    // Refresh reads the durable record, so it is refused at once everywhere.
    assert_refused(
        there.refresh(&session.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_REVOKED",
    );
    there.until_revoked(&session.access_token).await;
}
