//! Row 25: one replica's wall clock is wrong. It makes no token and moves no session while it is more than 5 s off;
//! what it must still do it does by the stores' time.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, RefreshOutcome};
use rstest::rstest;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::keys::part;
use crate::support::{Caller, Countersign, Deployment, Keys, Shape, WallTime, assert_refused, eventually, get};

/// What a replica says of its clock: seconds ahead of the store's.
async fn told_skew(server: &Countersign) -> Option<f64> {
    let metrics = get(&format!("{}/metrics", server.http_url()), &[]).await;
    let mut lines = metrics.body.lines();
    lines.find_map(|line| line.strip_prefix("countersign_clock_skew_seconds ")?.parse().ok())
}

async fn says_that_it_is_off_by(server: &Countersign, seconds: f64) {
    eventually("the gauge tells the skew", Duration::from_secs(10), || async {
        told_skew(server).await.filter(|told| (told - seconds).abs() < 3.0)
    })
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_far_off_makes_nothing(#[values(30, -30, 90, -90, 300, -300)] seconds: i32) {
    let deployment = Deployment::fresh(Shape::Clustered).await;
    deployment.add_user("ada", &[]);
    let user = deployment.add_user("bob", &[]);
    let right = deployment.serve();
    let wrong = WallTime::shifted(&format!("{seconds:+}s"))
        .rule(&deployment.storage)
        .serve(&[]);
    let (at_right, at_wrong) = (Caller::of(&right), Caller::of(&wrong));
    says_that_it_is_off_by(&wrong, f64::from(seconds)).await;
    says_that_it_is_off_by(&right, 0.0).await;

    // Nothing is made there, and nothing is lost by asking: the same refresh token is good elsewhere.
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

    // Five seconds of leeway and no more: a token from its future is not believed, one from its past is.
    let expected = (seconds < 0).then_some(InactiveReason::NotYetValid);
    assert_eq!(at_wrong.inactive(&session.access_token).await, expected);

    // A revocation there is in force everywhere, and what comes after it is not: no clock orders the two.
    let before = at_right.login("bob").await;
    at_wrong.revoke(Target::UserId(user.clone())).await.unwrap();
    at_right.until_revoked(&before.access_token).await;
    let after = at_right.login("bob").await;
    at_right.assert_active(&after.access_token).await;
    let (after, _) = at_right
        .refresh(&after.refresh_token)
        .await
        .expect("a login made since");
    // And one by the right clock kills what began after the other, though that may have been in its future.
    at_right.revoke(Target::UserId(user)).await.unwrap();
    at_right.until_revoked(&after.access_token).await;
    assert_refused(
        at_right.refresh(&after.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_REVOKED",
    );

    // It takes part in no rotation's business, and hinders none: the key that signs now is good there as well.
    let keys = Keys::of(&right);
    keys.rotate(true).await.unwrap();
    keys.rotate(true).await.unwrap();
    let session = at_right.login("ada").await;
    eventually("it knows the new key", Duration::from_secs(10), || async {
        (at_wrong.inactive(&session.access_token).await == expected).then_some(())
    })
    .await;
    for server in [&right, &wrong] {
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

const GRACE: Duration = Duration::from_secs(4);

/// Within the 5 s that are tolerated, the grace is the stores' to count: it is neither longer nor shorter elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn grace_is_counted_by_the_store() {
    let deployment = Deployment::fresh(Shape::Clustered)
        .await
        .set("tokens.refresh_grace", &format!("{}s", GRACE.as_secs()));
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let right = Caller::of(&server);
    let ahead = deployment_at("+4s", &deployment);
    let behind = deployment_at("-4s", &deployment);

    // By its own clock the grace was over before it began. A machine that stalls here proves nothing: again then.
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

    // By its own clock the grace lasts for some seconds yet.
    let session = right.login("ada").await;
    right.refresh(&session.refresh_token).await.unwrap();
    sleep(GRACE + Duration::from_millis(200)).await;
    assert_refused(
        Caller::of(&behind).refresh(&session.refresh_token).await,
        Code::Unauthenticated,
        "REFRESH_TOKEN_REUSED",
    );
}

/// A session ends when the stores say so, not when a slow clock comes to think so.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_expire_by_the_store() {
    const IDLE: Duration = Duration::from_secs(3);
    let deployment = Deployment::fresh(Shape::Clustered)
        .await
        .set("tokens.access_ttl", "1s")
        .set("tokens.refresh_idle_ttl", &format!("{}s", IDLE.as_secs()));
    deployment.add_user("ada", &[]);
    let right = deployment.serve();
    let (ahead, behind) = (deployment_at("+4s", &deployment), deployment_at("-4s", &deployment));

    eventually("a refresh before the expiry", Duration::from_mins(1), || async {
        let session = Caller::of(&right).login("ada").await;
        let start = Instant::now();
        let refreshed = Caller::of(&ahead).refresh(&session.refresh_token).await;
        if start.elapsed() >= IDLE {
            return None;
        }
        refreshed.expect("by its own clock it expired long ago");
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
    // What it makes carries its own time, within the tolerance: good elsewhere at once.
    let made = Caller::of(&ahead).login("ada").await;
    assert!(part(&made.access_token, 1)["iat"].is_i64());
    Caller::of(&right).assert_active(&made.access_token).await;
}

fn deployment_at(offset: &str, deployment: &Deployment) -> Countersign {
    WallTime::shifted(offset).rule(&deployment.storage).serve(&[])
}
