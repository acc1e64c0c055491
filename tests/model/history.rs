//! The checker of histories, fed with histories that cannot be, and with some that can.

use std::time::Duration;

use crate::support::history::{Answer, Asked, Call, Fault, violations};

/// A call from `begun` to `ended`, in milliseconds.
fn call(asked: Asked, answer: Answer, begun: u64, ended: u64) -> Call {
    Call {
        session: "s".to_owned(),
        asked,
        answer,
        begun: Duration::from_millis(begun),
        ended: Some(Duration::from_millis(ended)),
        ended_at: i64::try_from(ended).unwrap(),
    }
}

fn tokens(token: &str, generation: u32, rotated: bool) -> Answer {
    Answer::Tokens {
        token: token.to_owned(),
        generation,
        rotated,
    }
}

fn refresh(generation: u32, attempt: &str) -> Asked {
    Asked::Refresh {
        generation,
        attempt: attempt.to_owned(),
    }
}

fn refused() -> Answer {
    Answer::Refused("SESSION_REVOKED".to_owned())
}

fn login() -> Call {
    call(Asked::Login, tokens("t0", 0, true), 0, 1)
}

fn faults(calls: impl IntoIterator<Item = Call>) -> Vec<Fault> {
    let mut calls: Vec<Call> = calls.into_iter().collect();
    let found: Vec<Fault> = violations(&calls).into_iter().map(|v| v.fault).collect();
    // Calls are written down when they end, by many tasks: their order in the list says nothing.
    calls.reverse();
    let reversed = violations(&calls).len();
    assert_eq!(found.is_empty(), reversed == 0);
    found
}

#[test]
fn a_session_that_outlives_its_acknowledged_end_is_found() {
    let revoke = call(Asked::Revoke, Answer::Done, 10, 20);
    let after = call(refresh(0, ""), tokens("t1", 1, true), 21, 30);
    assert_eq!(faults([login(), revoke.clone(), after]), [Fault::AliveAfterItsEnd]);
    // It began before the acknowledgement: either may have come first.
    let beside = call(refresh(0, ""), tokens("t1", 1, true), 19, 30);
    assert_eq!(faults([login(), revoke, beside.clone()]), []);
    // A revocation that was not acknowledged promises nothing.
    let unheard = Call {
        ended: None,
        ..call(Asked::Revoke, Answer::Unknown, 2, 3)
    };
    assert_eq!(faults([login(), unheard, beside]), []);
}

#[test]
fn a_session_that_comes_back_after_it_was_refused_is_found() {
    let unheard = Call {
        ended: None,
        ..call(Asked::Revoke, Answer::Unknown, 2, 3)
    };
    let no = call(refresh(0, ""), refused(), 10, 20);
    let yes = call(refresh(0, ""), tokens("t1", 1, true), 21, 30);
    assert_eq!(faults([login(), unheard, no, yes]), [Fault::AliveAfterItsEnd]);
}

#[test]
fn two_successors_of_one_generation_are_found() {
    let one = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let same = call(refresh(0, "a"), tokens("t1", 1, false), 11, 21);
    let other = call(refresh(0, "a"), tokens("u1", 1, false), 11, 21);
    let skipping = call(refresh(0, "a"), tokens("t2", 2, false), 11, 21);
    assert_eq!(faults([login(), one.clone(), same]), []);
    assert_eq!(faults([login(), one.clone(), other]), [Fault::TwoSuccessors]);
    assert_eq!(faults([login(), one, skipping]), [Fault::TwoSuccessors]);
}

#[test]
fn two_winners_of_one_generation_are_found() {
    let one = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let again = call(refresh(0, "a"), tokens("t1", 1, true), 11, 21);
    assert_eq!(faults([login(), one.clone(), again]), [Fault::TwoWinners]);
    // Another attempt is another holder, whatever it is told.
    let thief = call(refresh(0, "b"), tokens("t1", 1, false), 11, 21);
    assert_eq!(faults([login(), one, thief]), [Fault::TwoWinners]);
}

#[test]
fn an_acknowledged_successor_that_does_not_work_is_found() {
    let one = call(refresh(0, "a"), tokens("t1", 1, true), 10, 20);
    let no = call(refresh(1, "b"), refused(), 30, 40);
    assert_eq!(faults([login(), one.clone(), no.clone()]), [Fault::Lost]);
    // Somebody was ending it, or used a token twice.
    let unheard = Call {
        ended: None,
        ..call(Asked::Revoke, Answer::Unknown, 39, 50)
    };
    assert_eq!(faults([login(), one.clone(), unheard, no.clone()]), []);
    let thief = call(refresh(0, "c"), refused(), 21, 29);
    assert_eq!(faults([login(), one.clone(), thief, no.clone()]), []);
    // A call that was never answered may be done late; one of which nothing more can come may not.
    let unanswered = Call {
        ended: None,
        ..call(refresh(0, "a"), Answer::Unknown, 5, 9)
    };
    let over = call(refresh(0, "a"), Answer::Unknown, 5, 9);
    assert_eq!(faults([login(), unanswered, one.clone(), no.clone()]), []);
    assert_eq!(faults([login(), over, one, no]), [Fault::Lost]);
}

#[test]
fn an_answer_that_claims_to_know_better_than_it_does_is_found() {
    let revoke = call(Asked::Revoke, Answer::Done, 10, 20);
    let good = |as_of| call(Asked::Validate, Answer::Active { as_of }, 30, 31);
    assert_eq!(faults([login(), revoke.clone(), good(20)]), []);
    assert_eq!(faults([login(), revoke, good(21)]), [Fault::ClaimedTooMuch]);
}

#[test]
fn sessions_are_told_apart() {
    let revoke = Call {
        session: "another".to_owned(),
        ..call(Asked::Revoke, Answer::Done, 2, 3)
    };
    let alive = call(refresh(0, ""), tokens("t1", 1, true), 10, 20);
    assert_eq!(faults([login(), revoke, alive]), []);
}
