//! The active signing key leaks and is revoked. All its tokens are rejected on every replica within the propagation
//! bound. The standby key, which every cache already holds, signs at once, and no user has to log in again.

use std::time::Duration;

use countersign::proto::{InactiveReason, KeyState, RefreshOutcome};
use rstest::rstest;
use tokio::time::Instant;
use tonic::Code;

use crate::support::keys::{kid, published};
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, Keys, assert_refused, eventually, get};

async fn key_set(server: &Countersign) -> Vec<String> {
    published(
        &get(&format!("{}/.well-known/jwks.json", server.http_url()), &[])
            .await
            .body,
    )
}

/// Waits until this replica rejects the token, for any reason.
async fn until_rejected(caller: &Caller, token: &str) {
    eventually("the token is rejected here", Duration::from_secs(30), || async {
        let reason = caller.inactive_reason(token).await?;
        let expected = matches!(reason, InactiveReason::RevokedKey | InactiveReason::Revoked);
        assert!(expected, "{reason:?}");
        Some(())
    })
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_key_is_revoked_and_no_user_has_to_log_in_again(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let replicas: Vec<Countersign> = match deployment_kind {
        DeploymentKind::Embedded => vec![deployment.serve()],
        DeploymentKind::Clustered | DeploymentKind::RedisCluster => (0..3).map(|_| deployment.serve()).collect(),
    };
    let callers: Vec<Caller> = replicas.iter().map(Caller::of).collect();
    let keys = Keys::of(&replicas[0]);
    let older = callers[0].login("ada").await;
    keys.rotate(true).await.unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let leaked = keys.active().await;
        let [standby] = keys.in_state(KeyState::Pending).await.try_into().unwrap();
        let mut sessions = Vec::new();
        for caller in &callers {
            let session = eventually("every replica signs with the key", Duration::from_secs(40), || async {
                let session = caller.login("ada").await;
                (kid(&session.access_token) == leaked).then_some(session)
            })
            .await;
            sessions.push(session);
        }
        for (caller, replica) in callers.iter().zip(&replicas) {
            for session in &sessions {
                caller.assert_active(&session.access_token).await;
            }
            // Verifiers have the standby key in their caches before it signs.
            eventually("the standby is published", Duration::from_secs(40), || async {
                key_set(replica).await.contains(&standby).then_some(())
            })
            .await;
        }

        let revoked = keys.revoke(&leaked).await.unwrap();
        assert_eq!(
            (revoked.key_id.as_str(), revoked.state()),
            (leaked.as_str(), KeyState::Revoked)
        );
        let start = Instant::now();
        assert_eq!(keys.active().await, standby, "the standby key is active");
        for caller in &callers {
            for session in &sessions {
                until_rejected(caller, &session.access_token).await;
            }
        }
        slowest = slowest.max(start.elapsed());

        // Each session goes on with its refresh token, at any replica.
        for (session, caller) in sessions.iter().zip(callers.iter().rev()) {
            let (fresh, outcome) = caller
                .refresh(&session.refresh_token)
                .await
                .expect("the session survives");
            assert_eq!(
                (kid(&fresh.access_token), outcome),
                (standby.clone(), RefreshOutcome::Rotated)
            );
            for caller in &callers {
                caller.assert_active(&fresh.access_token).await;
            }
        }
        for (caller, replica) in callers.iter().zip(&replicas) {
            let session = caller.login("ada").await;
            assert_eq!(kid(&session.access_token), standby);
            // Tokens of other keys stay valid, and those keys stay published.
            caller.assert_active(&older.access_token).await;
            eventually("the leaked key is not published", Duration::from_secs(40), || async {
                (!key_set(replica).await.contains(&leaked)).then_some(())
            })
            .await;
        }
        assert_eq!(
            keys.in_state(KeyState::Pending).await.len(),
            1,
            "there is a new standby key"
        );
        assert_eq!(
            keys.revoke(&leaked).await.unwrap().state(),
            KeyState::Revoked,
            "revoking it again is no error"
        );
    }
    println!("{deployment_kind:?}: rejected everywhere {slowest:?} after RevokeKey returned");

    // A revoked standby key is replaced before it signs anything, and the active key stays.
    let signing = keys.active().await;
    let [standby] = keys.in_state(KeyState::Pending).await.try_into().unwrap();
    keys.revoke(&standby).await.unwrap();
    assert_eq!(keys.active().await, signing);
    let [next] = keys.in_state(KeyState::Pending).await.try_into().unwrap();
    assert_ne!(next, standby);
    // The same by the command line, directly on the store.
    deployment
        .storage
        .run(&["key", "revoke", &signing, "--reason", "leaked"])
        .succeed();
    assert_eq!(keys.active().await, next);
    assert_refused(keys.revoke(&"x".repeat(43)).await, Code::NotFound, "KEY_NOT_FOUND");
}
