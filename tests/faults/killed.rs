//! Row 19: replicas are killed (`kill -9`) in the middle of Refresh and Revoke. The full size is
//! `COUNTERSIGN_KILLS=500 cargo test --all-features --test faults killed`.

use std::time::Duration;

use countersign::proto::InactiveReason;
use countersign::proto::revoke_request::Target;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::recording_client::{Held, below, insist, login, refresh, revoke, unique, validate};
use crate::support::history::{Answer, Asked};
use crate::support::{Caller, Fleet, History, assert_refused, eventually, size};

/// How far into the calls a kill falls, at most.
const LATEST: Duration = Duration::from_millis(20);

/// Refreshes a chain at the victim until it is gone; what the last answer gave, and the attempt that had none.
async fn chain(history: &History, victim: &Caller, mut held: Held) -> (Held, String) {
    loop {
        let attempt = unique();
        match refresh(history, victim, &held, &attempt).await {
            Ok(next) => held = next,
            Err(_) => return (held, attempt),
        }
    }
}

/// One kill: what was under way, and what is found afterwards.
async fn round(fleet: &mut Fleet, history: &History, ben: &str) {
    let callers = fleet.callers();
    let doomed = below(callers.len());
    let victim = &callers[doomed];
    let others: Vec<Caller> = (0..callers.len())
        .filter(|n| *n != doomed)
        .map(|n| callers[n].clone())
        .collect();
    let (chained, revoked, stolen) = (
        login(history, &others, "ada").await,
        login(history, &others, "ada").await,
        login(history, &others, "ada").await,
    );
    let (logged_out, also) = (
        login(history, &others, "ben").await,
        login(history, &others, "ben").await,
    );
    // Two steps on, so that the first token is one long gone.
    let second = insist(history, &others, &stolen, "first").await.expect("it lives");
    let third = insist(history, &others, &second, "second").await.expect("it lives");
    // The victim's connections are open before the time is taken.
    validate(history, victim, &chained).await;

    let target = Target::Token(revoked.access.clone());
    let everything = Target::UserId(ben.to_owned());
    let when = LATEST.mul_f64(f64::from(u32::try_from(below(10_000)).unwrap()) / 10_000.0);
    let (one, both) = ([&revoked], [&logged_out, &also]);
    let server = &mut fleet.replicas[doomed];
    let ((last, attempt), ..) = tokio::join!(
        chain(history, victim, chained),
        revoke(history, victim, &one, target),
        revoke(history, victim, &both, everything),
        refresh(history, victim, &stolen, "thief"),
        async {
            sleep(when).await;
            server.kill();
        }
    );
    // The connections that it had are closed, and Redis has read what was in them before it reads this.
    fleet.redis.command(&["PING"]);
    history.settle();

    // A good client tries again elsewhere; what it is given then works.
    let next = insist(history, &others, &last, &attempt)
        .await
        .expect("nobody has ended it");
    let next = insist(history, &others, &next, &unique())
        .await
        .expect("nobody has ended it");
    assert_eq!(validate(history, &others[0], &next).await, Some(true));
    // Whatever became of the others: the answer is the same at every replica, and stays.
    for held in [&revoked, &logged_out, &also, &third] {
        let (first, again) = (
            insist(history, &others[..1], held, "after").await.is_some(),
            insist(history, &others[1..], held, "after").await.is_some(),
        );
        assert_eq!(first, again, "{held:?}");
        if !first {
            // Whoever refuses has it in writing: its access token is bad everywhere, at the latest a reconciliation on.
            eventually("a session that is over is over", Duration::from_secs(20), || async {
                (validate(history, &others[0], held).await == Some(false)).then_some(())
            })
            .await;
        }
    }
    fleet.replicas[doomed].launch().await;
    for held in [&revoked, &logged_out, &also, &third, &next] {
        validate(history, victim, held).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_undone_by_a_kill() {
    let kills = size("COUNTERSIGN_KILLS", 15_usize);
    let mut fleet = Fleet::direct(&[], &[("tokens.refresh_grace", "5m")]).await;
    let ben = fleet.add_user("ben").await;
    let (mut unanswered, mut acknowledged, mut calls) = (0, 0, 0);
    let start = Instant::now();
    for _ in 0..kills {
        let history = History::default();
        round(&mut fleet, &history, &ben).await;
        history.assert_possible();
        let asked = |call: &crate::support::history::Call| matches!(call.asked, Asked::Revoke | Asked::Refresh { .. });
        unanswered += history.count(|call| asked(call) && call.answer == Answer::Unknown);
        acknowledged += history.count(|call| call.answer == Answer::Done);
        calls += history.calls();
    }
    println!(
        "{kills} kills in {:?}: {calls} calls, {unanswered} of them cut off, {acknowledged} acknowledged revocations; no violation",
        start.elapsed()
    );
    assert!(unanswered > 0, "no kill fell into a call");
    fleet.assert_calm();
}

/// The moment that a random kill seldom hits: the record is a tombstone, and nobody has written the revocation.
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_without_its_row_refuses_and_is_finished_when_it_is_next_met() {
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
    // It cannot be written down, so it is not said either.
    for token in [&stolen, &third, &second] {
        let answer = callers[0].refresh(&token.refresh_token).await;
        assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    fleet.replicas[0].kill();
    fleet.database.execute("DROP TRIGGER refuse ON revocations").await;
    assert_eq!(fleet.database.scalar("SELECT count(*) FROM revocations").await, "0");

    // The newest token, in the best of hands: the session is over all the same.
    let met = callers[1].refresh(&third.refresh_token).await;
    assert_refused(met, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_eq!(fleet.database.scalar("SELECT count(*) FROM revocations").await, "1");
    fleet.replicas[0].launch().await;
    for caller in &callers {
        for tokens in [&stolen, &second, &third] {
            caller.until_revoked(&tokens.access_token).await;
            assert_eq!(
                caller.inactive(&tokens.access_token).await,
                Some(InactiveReason::Revoked)
            );
            let refused = caller.refresh(&tokens.refresh_token).await;
            assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
        }
    }
    let told = "SELECT count(*) FROM audit_events WHERE kind = 'token.refresh.reused'";
    assert_eq!(fleet.database.scalar(told).await, "1");
}
