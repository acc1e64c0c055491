//! The checker of histories, with histories that are impossible and some that are possible.

use std::time::Duration;

use crate::support::history::{Anomaly, Call, Operation, Outcome, Rules, violations, violations_under};

/// A call from `started` to `ended`, in milliseconds.
fn call(operation: Operation, outcome: Outcome, started: u64, ended: u64) -> Call {
    Call {
        session: "s".to_owned(),
        operation,
        outcome,
        started: Duration::from_millis(started),
        ended: Some(Duration::from_millis(ended)),
        ended_at: i64::try_from(ended).unwrap(),
    }
}

fn tokens(token: &str, generation: u32, rotated: bool) -> Outcome {
    Outcome::Tokens {
        token: token.to_owned(),
        generation,
        rotated,
    }
}

fn refresh(generation: u32, attempt: &str) -> Operation {
    Operation::Refresh {
        generation,
        attempt: attempt.to_owned(),
    }
}

fn refused() -> Outcome {
    Outcome::Refused("SESSION_REVOKED".to_owned())
}

fn login() -> Call {
    call(Operation::Login, tokens("t0", 0, true), 0, 1)
}

fn anomalies(calls: impl IntoIterator<Item = Call>) -> Vec<Anomaly> {
    let mut calls: Vec<Call> = calls.into_iter().collect();
    let found: Vec<Anomaly> = violations(&calls).into_iter().map(|v| v.anomaly).collect();
    // Many tasks append calls when they end, so the order in the list means nothing.
    calls.reverse();
    let reversed = violations(&calls).len();
    assert_eq!(found.is_empty(), reversed == 0);
    found
}

#[test]
fn a_session_used_after_its_acknowledged_end_is_found() {
    let revoke = call(Operation::Revoke, Outcome::Done, 10, 20);
    let after = call(refresh(0, ""), tokens("t1", 1, true), 21, 30);
    assert_eq!(
        anomalies([login(), revoke.clone(), after]),
        [Anomaly::ActiveAfterRevocation]
    );
    // It began before the acknowledgement: either may have come first.
    let concurrent = call(refresh(0, ""), tokens("t1", 1, true), 19, 30);
    assert_eq!(anomalies([login(), revoke, concurrent.clone()]), []);
    // A revocation that was not acknowledged promises nothing.
    let unacknowledged = Call {
        ended: None,
        ..call(Operation::Revoke, Outcome::Unknown, 2, 3)
    };
    assert_eq!(anomalies([login(), unacknowledged, concurrent]), []);
}

#[test]
fn a_session_that_comes_back_after_it_was_refused_is_found() {
    let unacknowledged = Call {
        ended: None,
        ..call(Operation::Revoke, Outcome::Unknown, 2, 3)
    };
    let no = call(refresh(0, ""), refused(), 10, 20);
    let yes = call(refresh(0, ""), tokens("t1", 1, true), 21, 30);
    assert_eq!(
        anomalies([login(), unacknowledged, no, yes]),
        [Anomaly::ActiveAfterRevocation]
    );
}

#[test]
fn two_successors_of_one_generation_are_found() {
    let one = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let same = call(refresh(0, "a"), tokens("t1", 1, false), 11, 21);
    let other = call(refresh(0, "a"), tokens("u1", 1, false), 11, 21);
    let skipping = call(refresh(0, "a"), tokens("t2", 2, false), 11, 21);
    assert_eq!(anomalies([login(), one.clone(), same]), []);
    assert_eq!(anomalies([login(), one.clone(), other]), [Anomaly::TwoSuccessors]);
    assert_eq!(anomalies([login(), one, skipping]), [Anomaly::TwoSuccessors]);
}

#[test]
fn two_winners_of_one_generation_are_found() {
    let one = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let again = call(refresh(0, "a"), tokens("t1", 1, true), 11, 21);
    assert_eq!(anomalies([login(), one.clone(), again]), [Anomaly::TwoWinners]);
    // Another attempt id is another holder, even if it gets the same successor.
    let thief = call(refresh(0, "b"), tokens("t1", 1, false), 11, 21);
    assert_eq!(anomalies([login(), one, thief]), [Anomaly::TwoWinners]);
}

#[test]
fn an_acknowledged_successor_that_is_refused_is_found() {
    let one = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let no = call(refresh(1, "b"), refused(), 30, 40);
    assert_eq!(
        anomalies([login(), one.clone(), no.clone()]),
        [Anomaly::UnexplainedRefusal]
    );
    // A revocation or a reuse explains the refusal.
    let unacknowledged = Call {
        ended: None,
        ..call(Operation::Revoke, Outcome::Unknown, 39, 50)
    };
    assert_eq!(anomalies([login(), one.clone(), unacknowledged, no.clone()]), []);
    let thief = call(refresh(0, "c"), refused(), 21, 29);
    assert_eq!(anomalies([login(), one.clone(), thief, no.clone()]), []);
    // A call without an answer may take effect later, unless it is known to have ended.
    let unanswered = Call {
        ended: None,
        ..call(refresh(0, "a"), Outcome::Unknown, 5, 9)
    };
    let over = call(refresh(0, "a"), Outcome::Unknown, 5, 9);
    assert_eq!(anomalies([login(), unanswered, one.clone(), no.clone()]), []);
    assert_eq!(anomalies([login(), over, one, no]), [Anomaly::UnexplainedRefusal]);
}

#[test]
fn an_answer_that_claims_to_know_too_much_is_found() {
    let revoke = call(Operation::Revoke, Outcome::Done, 10, 20);
    let good = |as_of| call(Operation::Validate, Outcome::Active { as_of }, 30, 31);
    assert_eq!(anomalies([login(), revoke.clone(), good(20)]), []);
    assert_eq!(anomalies([login(), revoke, good(21)]), [Anomaly::AsOfTooRecent]);
}

#[test]
fn sessions_are_checked_separately() {
    let revoke = Call {
        session: "another".to_owned(),
        ..call(Operation::Revoke, Outcome::Done, 2, 3)
    };
    let alive = call(refresh(0, ""), tokens("t1", 1, true), 10, 20);
    assert_eq!(anomalies([login(), revoke, alive]), []);
}

/// A store of sessions that lost what it had acknowledged at this time.
fn lossy(start: u64, end: u64) -> Rules {
    Rules {
        losses: vec![Duration::from_millis(start)..Duration::from_millis(end)],
        ..Rules::default()
    }
}

fn anomalies_under(calls: &[Call], rules: &Rules) -> Vec<Anomaly> {
    violations_under(calls, rules).into_iter().map(|v| v.anomaly).collect()
}

#[test]
fn a_rotation_may_be_lost_only_when_the_store_may_lose_it() {
    let owner = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let thief = call(refresh(0, "b"), tokens("t1", 1, true), 100, 110);
    let calls = [login(), owner, thief];
    assert_eq!(anomalies_under(&calls, &lossy(15, 90)), []);
    // The rotation was before the loss, or both were after it.
    assert_eq!(anomalies_under(&calls, &lossy(30, 90)), [Anomaly::TwoWinners]);
    assert_eq!(anomalies_under(&calls, &lossy(2, 9)), [Anomaly::TwoWinners]);
    // Afterwards the thief's token is behind the owner's, and gets the current one.
    let behind = call(refresh(0, "b"), tokens("t2", 2, false), 100, 110);
    let calls = [login(), behind];
    assert_eq!(anomalies_under(&calls, &lossy(15, 90)), []);
    assert_eq!(anomalies_under(&calls, &Rules::default()), [Anomaly::TwoSuccessors]);
}

#[test]
fn a_session_may_be_unknown_only_if_its_login_was_lost() {
    let unknown = Outcome::Refused("SESSION_NOT_FOUND".to_owned());
    let calls = [login(), call(refresh(0, ""), unknown, 20, 30)];
    assert_eq!(anomalies_under(&calls, &lossy(0, 10)), []);
    assert_eq!(anomalies_under(&calls, &lossy(5, 10)), [Anomaly::UnexplainedRefusal]);
    // It is refused for another reason.
    let calls = [login(), call(refresh(0, ""), refused(), 20, 30)];
    assert_eq!(anomalies_under(&calls, &lossy(0, 10)), [Anomaly::UnexplainedRefusal]);
}

#[test]
fn a_call_that_was_given_up_may_end_a_session_only_without_a_deadline() {
    let mut given_up = call(refresh(0, "a"), Outcome::Unknown, 10, 20);
    given_up.ended = None;
    let calls = [
        login(),
        given_up,
        call(refresh(0, "a"), tokens("t1", 1, true), 20, 30),
        call(refresh(1, "b"), tokens("t2", 2, true), 30, 40),
        call(refresh(2, "c"), refused(), 50, 60),
    ];
    assert_eq!(anomalies_under(&calls, &Rules::default()), []);
    let strict = Rules {
        given_up_calls_end: true,
        ..Rules::default()
    };
    assert_eq!(anomalies_under(&calls, &strict), [Anomaly::UnexplainedRefusal]);
    // An access token of an honest session is not called revoked.
    let inactive = [login(), call(Operation::Validate, Outcome::Inactive, 10, 20)];
    assert_eq!(anomalies_under(&inactive, &strict), [Anomaly::UnexplainedRefusal]);
}

#[test]
fn a_session_used_after_its_reuse_was_found_is_found() {
    let reused = call(refresh(0, "thief"), Outcome::ReuseFound, 30, 40);
    let calls = [
        login(),
        call(refresh(0, "a"), tokens("t1", 1, true), 10, 20),
        reused,
        call(refresh(1, "b"), tokens("t2", 2, true), 50, 60),
    ];
    assert_eq!(
        anomalies_under(&calls, &Rules::default()),
        [Anomaly::ActiveAfterRevocation]
    );
    assert_eq!(anomalies_under(&calls, &lossy(35, 45)), []);
}
