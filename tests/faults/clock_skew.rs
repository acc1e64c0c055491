//! One replica's wall clock is wrong. While it is more than 5 s off, the replica issues no tokens and rotates no
//! session. For everything else it uses the time of the stores.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, RefreshOutcome};
use rstest::rstest;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::keys::part;
use crate::support::{
    Caller, Countersign, Deployment, DeploymentKind, Keys, WallTime, assert_refused, eventually, get,
};

/// The clock skew that a replica reports: seconds ahead of the store's clock.
async fn reported_skew(server: &Countersign) -> Option<f64> {
    let metrics = get(&format!("{}/metrics", server.http_url()), &[]).await;
    let mut lines = metrics.body.lines();
    lines.find_map(|line| line.strip_prefix("countersign_clock_skew_seconds ")?.parse().ok())
}

async fn until_skew_is_reported(server: &Countersign, seconds: f64) {
    eventually("the gauge tells the skew", Duration::from_secs(10), || async {
        reported_skew(server)
            .await
            .filter(|reported| (reported - seconds).abs() < 3.0)
    })
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_wrong_clock_issues_no_tokens(#[values(30, -30, 90, -90, 300, -300)] seconds: i32) {
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    deployment.add_user("ada", &[]);
    let user = deployment.add_user("bob", &[]);
    let right = deployment.serve();
    let wrong = WallTime::shifted(&format!("{seconds:+}s"))
        .apply_to(&deployment.storage)
        .serve(&[]);
    let (at_right, at_wrong) = (Caller::of(&right), Caller::of(&wrong));
    until_skew_is_reported(&wrong, f64::from(seconds)).await;
    until_skew_is_reported(&right, 0.0).await;

    // That replica refuses to issue, and the attempt has no effect: the same refresh token works at another replica.
    let session = at_right.login("ada").await;
    assert_refused(
        at_wrong.issue("ada", crate::support::PASSWORD).await,
        Code::Unavailable,
        "STORE_UNAVAILABLE",
    );
    assert_refused(
        at_wrong.refresh(&session.refresh_token).await,
        Code::Unavailable,
        "STORE_UNAVAILABLE",
    );
    let (session, outcome) = at_right.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Rotated);

    // The leeway is 5 s: a token issued in this replica's future is rejected, one issued in its past is accepted.
    let expected = (seconds < 0).then_some(InactiveReason::NotYetValid);
    assert_eq!(at_wrong.inactive_reason(&session.access_token).await, expected);

    // A revocation there is in force everywhere, and sessions begun after it are unaffected: no clock decides the
    // order.
    let before = at_right.login("bob").await;
    at_wrong.revoke(Target::UserId(user.clone())).await.unwrap();
    at_right.until_revoked(&before.access_token).await;
    let after = at_right.login("bob").await;
    at_right.assert_active(&after.access_token).await;
    let (after, _) = at_right
        .refresh(&after.refresh_token)
        .await
        .expect("a login made after the revocation");
    // A revocation at the replica with the right clock revokes sessions that began earlier, although by the wrong
    // clock they may begin later.
    at_right.revoke(Target::UserId(user)).await.unwrap();
    at_right.until_revoked(&after.access_token).await;
    assert_refused(
        at_right.refresh(&after.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_REVOKED",
    );

    // It neither rotates keys nor prevents a rotation: it accepts tokens of the new active key.
    let keys = Keys::of(&right);
    keys.rotate(true).await.unwrap();
    keys.rotate(true).await.unwrap();
    let session = at_right.login("ada").await;
    eventually("the replica knows the new key", Duration::from_secs(10), || async {
        (at_wrong.inactive_reason(&session.access_token).await == expected).then_some(())
    })
    .await;
    for server in [&right, &wrong] {
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

const GRACE: Duration = Duration::from_secs(4);

/// Within the tolerated skew of 5 s, the store's clock counts the grace: it lasts equally long at every replica.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_clock_counts_the_grace() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered)
        .await
        .set("tokens.refresh_grace", &format!("{}s", GRACE.as_secs()));
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let right = Caller::of(&server);
    let ahead = serve_with_offset("+4s", &deployment);
    let behind = serve_with_offset("-4s", &deployment);

    // By this replica's own clock the grace ended before it began. A machine that stalls here proves nothing, so the
    // step is repeated.
    eventually("a retry within the grace", Duration::from_mins(1), || async {
        let session = right.login("ada").await;
        let start = Instant::now();
        let (successor, _) = right.refresh(&session.refresh_token).await.unwrap();
        let again = Caller::of(&ahead).refresh(&session.refresh_token).await;
        if start.elapsed() >= GRACE {
            return None;
        }
        let (same, outcome) = again.expect("within the grace");
        assert_eq!(outcome, RefreshOutcome::Replayed);
        assert_eq!(same.refresh_token, successor.refresh_token);
        Some(())
    })
    .await;

    // By this replica's own clock the grace lasts some seconds longer.
    let session = right.login("ada").await;
    right.refresh(&session.refresh_token).await.unwrap();
    sleep(GRACE + Duration::from_millis(200)).await;
    assert_refused(
        Caller::of(&behind).refresh(&session.refresh_token).await,
        Code::Unauthenticated,
        "REFRESH_TOKEN_REUSED",
    );
}

/// A session expires by the store's clock, not by the clock of a slow replica.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_clock_decides_when_sessions_expire() {
    const IDLE: Duration = Duration::from_secs(3);
    let deployment = Deployment::fresh(DeploymentKind::Clustered)
        .await
        .set("tokens.access_ttl", "1s")
        .set("tokens.refresh_idle_ttl", &format!("{}s", IDLE.as_secs()));
    deployment.add_user("ada", &[]);
    let right = deployment.serve();
    let (ahead, behind) = (
        serve_with_offset("+4s", &deployment),
        serve_with_offset("-4s", &deployment),
    );

    eventually("a refresh before the expiry", Duration::from_mins(1), || async {
        let session = Caller::of(&right).login("ada").await;
        let start = Instant::now();
        let refreshed = Caller::of(&ahead).refresh(&session.refresh_token).await;
        if start.elapsed() >= IDLE {
            return None;
        }
        refreshed.expect("only by the replica's own clock is the session expired");
        Some(())
    })
    .await;

    let session = Caller::of(&right).login("ada").await;
    sleep(IDLE + Duration::from_millis(200)).await;
    assert_refused(
        Caller::of(&behind).refresh(&session.refresh_token).await,
        Code::Unauthenticated,
        "REFRESH_TOKEN_EXPIRED",
    );
    // Its tokens carry its own time, which is within the tolerance: other replicas accept them at once.
    let made = Caller::of(&ahead).login("ada").await;
    assert!(part(&made.access_token, 1)["iat"].is_i64());
    Caller::of(&right).assert_active(&made.access_token).await;
}

fn serve_with_offset(offset: &str, deployment: &Deployment) -> Countersign {
    WallTime::shifted(offset).apply_to(&deployment.storage).serve(&[])
}
