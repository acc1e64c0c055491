//! Replicas are killed (`kill -9`) in the middle of Refresh and Revoke. Nothing that was acknowledged is undone. The
//! full size is `COUNTERSIGN_KILLS=500 cargo test --all-features --test faults killed`.

use std::time::Duration;

use countersign::proto::InactiveReason;
use countersign::proto::revoke_request::Target;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::recording_client::{ClientSession, below, login, refresh, refresh_until_answered, revoke, unique, validate};
use crate::support::history::{Operation, Outcome};
use crate::support::{Caller, Fleet, History, assert_refused, eventually, size};

/// The kill comes at a random time up to this long after the calls begin.
const MAX_DELAY: Duration = Duration::from_millis(20);

/// Refreshes a session again and again at the victim until that is killed. Returns the session as of the last answer,
/// and the id of the attempt that got none.
async fn refresh_until_killed(
    history: &History,
    victim: &Caller,
    mut session: ClientSession,
) -> (ClientSession, String) {
    loop {
        let attempt = unique();
        match refresh(history, victim, &session, &attempt).await {
            Ok(next) => session = next,
            Err(_) => return (session, attempt),
        }
    }
}

/// One kill: the calls under way, and the checks afterwards.
async fn round(fleet: &mut Fleet, history: &History, ben: &str) {
    let callers = fleet.callers();
    let doomed = below(callers.len());
    let victim = &callers[doomed];
    let others: Vec<Caller> = (0..callers.len())
        .filter(|n| *n != doomed)
        .map(|n| callers[n].clone())
        .collect();
    let (refreshed, revoked, stolen) = (
        login(history, &others, "ada").await,
        login(history, &others, "ada").await,
        login(history, &others, "ada").await,
    );
    let (logged_out, also) = (
        login(history, &others, "ben").await,
        login(history, &others, "ben").await,
    );
    // Two generations on, so that the first token is older than any retry.
    let second = refresh_until_answered(history, &others, &stolen, "first")
        .await
        .expect("the session is active");
    let third = refresh_until_answered(history, &others, &second, "second")
        .await
        .expect("the session is active");
    // Open the connections to the victim first, so that the delay counts from the calls.
    validate(history, victim, &refreshed).await;

    let target = Target::Token(revoked.access.clone());
    let everything = Target::UserId(ben.to_owned());
    let when = MAX_DELAY.mul_f64(f64::from(u32::try_from(below(10_000)).unwrap()) / 10_000.0);
    let (one, both) = ([&revoked], [&logged_out, &also]);
    let server = &mut fleet.replicas[doomed];
    let ((last, attempt), ..) = tokio::join!(
        refresh_until_killed(history, victim, refreshed),
        revoke(history, victim, &one, target),
        revoke(history, victim, &both, everything),
        refresh(history, victim, &stolen, "thief"),
        async {
            sleep(when).await;
            server.kill();
        }
    );
    // The victim's connections are closed, and Redis has handled everything in them before it answers this.
    fleet.redis.command(&["PING"]);
    history.close_unanswered();

    // A correct client retries at another replica, and the tokens that it gets work.
    let next = refresh_until_answered(history, &others, &last, &attempt)
        .await
        .expect("the session was not revoked");
    let next = refresh_until_answered(history, &others, &next, &unique())
        .await
        .expect("the session was not revoked");
    assert_eq!(validate(history, &others[0], &next).await, Some(true));
    // Whatever happened to the other sessions, every replica gives the same answer, and it stays the same.
    for session in [&revoked, &logged_out, &also, &third] {
        let (first, again) = (
            refresh_until_answered(history, &others[..1], session, "after")
                .await
                .is_some(),
            refresh_until_answered(history, &others[1..], session, "after")
                .await
                .is_some(),
        );
        assert_eq!(first, again, "{session:?}");
        if !first {
            // A session that Refresh refuses has a durable revocation: its access token is rejected everywhere after
            // at most one reconciliation.
            eventually(
                "the access token of a refused session is rejected",
                Duration::from_secs(20),
                || async { (validate(history, &others[0], session).await == Some(false)).then_some(()) },
            )
            .await;
        }
    }
    fleet.replicas[doomed].launch().await;
    for session in [&revoked, &logged_out, &also, &third, &next] {
        validate(history, victim, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_replica_undoes_nothing_that_was_acknowledged() {
    let kills = size("COUNTERSIGN_KILLS", 15_usize);
    let mut fleet = Fleet::direct(&[], &[("tokens.refresh_grace", "5m")]).await;
    let ben = fleet.add_user("ben").await;
    let (mut unanswered, mut acknowledged, mut calls) = (0, 0, 0);
    let start = Instant::now();
    for _ in 0..kills {
        let history = History::default();
        round(&mut fleet, &history, &ben).await;
        history.assert_consistent();
        let operation = |call: &crate::support::history::Call| {
            matches!(call.operation, Operation::Revoke | Operation::Refresh { .. })
        };
        unanswered += history.count(|call| operation(call) && call.outcome == Outcome::Unknown);
        acknowledged += history.count(|call| call.outcome == Outcome::Done);
        calls += history.calls();
    }
    println!(
        "{kills} kills in {:?}: {calls} calls, {unanswered} of them cut off, {acknowledged} acknowledged revocations; no violation",
        start.elapsed()
    );
    assert!(unanswered > 0, "no kill fell into a call");
    fleet.assert_no_panics();
}

/// The moment that a random kill seldom hits: the session record is a tombstone, and the revocation row is not
/// written yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_without_its_row_refuses_and_is_completed_on_next_use() {
    let mut fleet = Fleet::direct(&[], &[]).await;
    let callers = fleet.callers();
    let stolen = callers[0].login("ada").await;
    let (second, _) = callers[0].refresh(&stolen.refresh_token).await.unwrap();
    let (third, _) = callers[0].refresh(&second.refresh_token).await.unwrap();
    fleet
        .database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'cannot_connect_now'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION refuse();",
        )
        .await;
    // The revocation cannot be stored, so the answer does not claim it.
    for token in [&stolen, &third, &second] {
        let outcome = callers[0].refresh(&token.refresh_token).await;
        assert_refused(outcome, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    fleet.replicas[0].kill();
    fleet.database.execute("DROP TRIGGER refuse ON revocations").await;
    assert_eq!(fleet.database.scalar("SELECT count(*) FROM revocations").await, "0");

    // The newest token, from the honest client: the session is revoked all the same.
    let met = callers[1].refresh(&third.refresh_token).await;
    assert_refused(met, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_eq!(fleet.database.scalar("SELECT count(*) FROM revocations").await, "1");
    fleet.replicas[0].launch().await;
    for caller in &callers {
        for tokens in [&stolen, &second, &third] {
            caller.until_revoked(&tokens.access_token).await;
            assert_eq!(
                caller.inactive_reason(&tokens.access_token).await,
                Some(InactiveReason::Revoked)
            );
            let refused = caller.refresh(&tokens.refresh_token).await;
            assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
        }
    }
    let reuse_events = "SELECT count(*) FROM audit_events WHERE kind = 'token.refresh.reused'";
    assert_eq!(fleet.database.scalar(reuse_events).await, "1");
}
