//! `kill -9` at any moment loses nothing that was acknowledged: users, sessions, keys and revocations.

use countersign::proto::InactiveReason;
use countersign::proto::revoke_request::Target;
use rstest::rstest;
use tonic::Code;

use crate::support::{Caller, Deployment, DeploymentKind, assert_refused};

#[rstest]
#[tokio::test]
async fn a_killed_replica_loses_no_acknowledged_change(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ben = deployment.add_user("ben", &[]);
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);

    let first = caller.login("ada").await;
    let (second, _) = caller.refresh(&first.refresh_token).await.unwrap();
    let revoked = [
        caller.login("ada").await,
        caller.login("ada").await,
        caller.login("ben").await,
    ];
    caller
        .revoke(Target::Token(revoked[0].access_token.clone()))
        .await
        .unwrap();
    caller
        .revoke(Target::SessionId(revoked[1].session_id.clone()))
        .await
        .unwrap();
    caller.revoke(Target::UserId(ben)).await.unwrap();
    server.kill();

    let server = deployment.serve();
    let caller = Caller::of(&server);
    // The signing key is the same, so tokens of before are still valid.
    caller.assert_active(&second.access_token).await;
    for tokens in &revoked {
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
    let (replayed, _) = caller.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(replayed.refresh_token, second.refresh_token);
    caller.refresh(&second.refresh_token).await.unwrap();
    caller.login("ada").await;
}

#[rstest]
#[tokio::test]
async fn a_revocation_is_in_force_even_if_the_process_is_killed_at_once(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let mut revoked = Vec::new();
    for _ in 0..5 {
        let server = deployment.serve();
        let caller = Caller::of(&server);
        for tokens in &revoked {
            let tokens: &countersign::proto::Tokens = tokens;
            assert_eq!(
                caller.inactive_reason(&tokens.access_token).await,
                Some(InactiveReason::Revoked)
            );
        }
        let session = caller.login("ada").await;
        caller
            .revoke(Target::Token(session.refresh_token.clone()))
            .await
            .unwrap();
        server.kill();
        revoked.push(session);
    }
    let server = deployment.serve();
    let caller = Caller::of(&server);
    for tokens in revoked {
        assert_refused(
            caller.refresh(&tokens.refresh_token).await,
            Code::Unauthenticated,
            "SESSION_REVOKED",
        );
    }
}
