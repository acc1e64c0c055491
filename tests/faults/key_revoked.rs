//! Row 28: the key that signs has leaked and is revoked. Everything that it signed is dead on every replica at once, the
//! standby that every cache knows already signs, and nobody has to log in again.

use std::time::Duration;

use countersign::proto::{InactiveReason, KeyState, RefreshOutcome};
use rstest::rstest;
use tokio::time::Instant;
use tonic::Code;

use crate::support::keys::{kid, published};
use crate::support::{Caller, Countersign, Deployment, Keys, Shape, assert_refused, eventually, get};

async fn key_set(server: &Countersign) -> Vec<String> {
    published(
        &get(&format!("{}/.well-known/jwks.json", server.http_url()), &[])
            .await
            .body,
    )
}

/// Until this replica says that the token is dead; by which word does not matter here.
async fn until_dead(caller: &Caller, token: &str) {
    eventually("the token is dead here", Duration::from_secs(30), || async {
        let reason = caller.inactive(token).await?;
        let dead = matches!(reason, InactiveReason::RevokedKey | InactiveReason::Revoked);
        assert!(dead, "{reason:?}");
        Some(())
    })
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_key_is_revoked_and_nobody_logs_in_again(#[values(Shape::Embedded, Shape::Clustered)] shape: Shape) {
    let deployment = Deployment::fresh(shape).await;
    deployment.add_user("ada", &[]);
    let replicas: Vec<Countersign> = match shape {
        Shape::Embedded => vec![deployment.serve()],
        Shape::Clustered | Shape::RedisCluster => (0..3).map(|_| deployment.serve()).collect(),
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
            let session = eventually("every replica signs with it", Duration::from_secs(40), || async {
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
            // Verifiers have it in their caches before it signs anything.
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
        assert_eq!(keys.active().await, standby, "the standby has stepped in");
        for caller in &callers {
            for session in &sessions {
                until_dead(caller, &session.access_token).await;
            }
        }
        slowest = slowest.max(start.elapsed());

        // Everybody goes on with the refresh token at hand, whichever replica is asked.
        for (session, caller) in sessions.iter().zip(callers.iter().rev()) {
            let (fresh, outcome) = caller.refresh(&session.refresh_token).await.expect("sessions live on");
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
            // What other keys signed is none the worse for it, nor do they leave the published set.
            caller.assert_active(&older.access_token).await;
            eventually("the leaked key is not published", Duration::from_secs(40), || async {
                (!key_set(replica).await.contains(&leaked)).then_some(())
            })
            .await;
        }
        assert_eq!(keys.in_state(KeyState::Pending).await.len(), 1, "another one waits");
        assert_eq!(
            keys.revoke(&leaked).await.unwrap().state(),
            KeyState::Revoked,
            "again is no error"
        );
    }
    println!("{shape:?}: dead everywhere {slowest:?} after RevokeKey answered");

    // A standby that leaked is replaced before it signs anything, and the one that signs goes on.
    let signing = keys.active().await;
    let [standby] = keys.in_state(KeyState::Pending).await.try_into().unwrap();
    keys.revoke(&standby).await.unwrap();
    assert_eq!(keys.active().await, signing);
    let [next] = keys.in_state(KeyState::Pending).await.try_into().unwrap();
    assert_ne!(next, standby);
    // The same by the command line, on the store itself.
    deployment
        .storage
        .run(&["key", "revoke", &signing, "--reason", "leaked"])
        .succeed();
    assert_eq!(keys.active().await, next);
    assert_refused(keys.revoke(&"x".repeat(43)).await, Code::NotFound, "KEY_NOT_FOUND");
}
