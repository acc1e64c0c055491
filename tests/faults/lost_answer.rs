//! The response to a refresh is lost on its way to the client, which retries: soon, just before the end of the grace,
//! or just after it.

use std::time::Duration;

use countersign::proto::{RefreshOutcome, Tokens};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use crate::support::caller::generation;
use crate::support::proxy::AfterLoss;
use crate::support::{Caller, Fleet, assert_refused};

const GRACE: Duration = Duration::from_secs(6);

/// Refreshes at the first replica, and the response is lost. Returns the times between which the session was rotated.
async fn refresh_and_lose_response(fleet: &Fleet, callers: &[Caller], session: &Tokens) -> (Instant, Instant) {
    // Open the connection first, so that the response is the next thing that comes back on it.
    callers[0].assert_active(&session.access_token).await;
    let token = session.refresh_token.clone().into_bytes();
    fleet.replicas[0].front.lose_reply(
        move |request| request.windows(token.len()).any(|window| window == token),
        AfterLoss::Close,
    );
    let before = Instant::now();
    let lost = callers[0].refresh_as(&session.refresh_token, "one").await;
    lost.expect_err("the response was lost");
    (before, Instant::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_successor_until_the_grace_is_over() {
    let fleet = Fleet::start(&[], &[("tokens.refresh_grace", "6s")]).await;
    let callers = fleet.callers();
    let mut lost = 0;
    for after in [Duration::from_secs(1), GRACE.mul_f64(0.85)] {
        // A machine that stalls past the end of the grace proves nothing, so the step is repeated.
        let mut rounds = 0..5;
        loop {
            assert!(rounds.next().is_some(), "this machine is too slow to be in time");
            let session = callers[1].login("ada").await;
            let (before, _) = refresh_and_lose_response(&fleet, &callers, &session).await;
            lost += 1;
            sleep_until(before + after).await;
            let answer = callers[1].refresh_as(&session.refresh_token, "one").await;
            if before.elapsed() >= GRACE {
                continue;
            }
            let answer = answer.expect("the retry is within the grace");
            assert_eq!(answer.outcome(), RefreshOutcome::Replayed);
            let successor = answer.tokens.unwrap();
            assert_eq!(generation(&successor.refresh_token), 1);
            // Once more, at another replica: still the same bytes, and the session goes on from them.
            let again = callers[2].refresh_as(&session.refresh_token, "one").await;
            if before.elapsed() < GRACE {
                assert_eq!(again.unwrap().tokens.unwrap().refresh_token, successor.refresh_token);
                let next = callers[0].refresh_as(&successor.refresh_token, "two").await.unwrap();
                assert_eq!(next.outcome(), RefreshOutcome::Rotated);
                println!("retried {after:?} after the loss: the same successor");
                break;
            }
        }
    }

    let session = callers[1].login("ada").await;
    let (_, after) = refresh_and_lose_response(&fleet, &callers, &session).await;
    lost += 1;
    sleep_until(after + GRACE + Duration::from_millis(50)).await;
    let late = callers[1].refresh_as(&session.refresh_token, "one").await;
    assert_refused(late, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
    for caller in &callers {
        caller.until_revoked(&session.access_token).await;
        let again = caller.refresh_as(&session.refresh_token, "one").await;
        assert_refused(again, Code::Unauthenticated, "SESSION_REVOKED");
    }
    // The audit event tells the operator both possible causes: theft, or a lost response as here.
    let explained = "SELECT details->>'explanation' FROM audit_events WHERE kind = 'token.refresh.reused'";
    assert_eq!(fleet.database.scalar(explained).await, "stolen_or_reply_lost");
    println!("retried {:?} after the loss: the session ended", after.elapsed());
    assert_eq!(fleet.replicas[0].front.lost(), lost);
}
