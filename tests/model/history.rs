//! The checker of histories, with histories that are impossible and some that are possible.

use std::time::Duration;

use crate::support::history::{Anomaly, Call, Operation, Outcome, violations};

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
