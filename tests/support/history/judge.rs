//! The rules that every history of a correct service keeps.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use super::{Anomaly, Call, Operation, Outcome, Violation};

/// What the deployment of a history may do beyond a correct service on stores that lose nothing.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// When the store of sessions may have lost what it had acknowledged shortly before: its replication is asynchronous. Logins of
    /// these times may be gone, and rotations too.
    pub losses: Vec<Range<Duration>>,
    /// A call that its client has given up takes no effect after a later one: no session ends by it.
    pub given_up_calls_end: bool,
}

impl Rules {
    /// Whether the effect of this call may be lost before `then`.
    fn may_lose(&self, call: &Call, then: Option<Duration>) -> bool {
        let ended = call.ended.unwrap_or(Duration::MAX);
        self.losses
            .iter()
            .any(|loss| call.started < loss.end && ended >= loss.start && then.is_none_or(|then| then >= loss.start))
    }

    /// Whether the session of these calls may be unknown: its login was lost.
    fn may_lose_login(&self, calls: &[&Call]) -> bool {
        calls
            .iter()
            .any(|call| call.operation == Operation::Login && self.may_lose(call, None))
    }
}

/// The reason for which an unknown session is refused.
const NOT_FOUND: &str = "SESSION_NOT_FOUND";

/// All anomalies among these calls, in any order.
pub fn violations(calls: &[Call]) -> Vec<Violation> {
    violations_under(calls, &Rules::default())
}

/// The same for another deployment.
pub fn violations_under(calls: &[Call], rules: &Rules) -> Vec<Violation> {
    let mut sessions: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in calls {
        sessions.entry(&call.session).or_default().push(call);
    }
    let mut found = Vec::new();
    for calls in sessions.values() {
        active_after_revocation(calls, rules, &mut found);
        one_successor(calls, rules, &mut found);
        unexplained_refusal(calls, rules, &mut found);
    }
    found
}

fn report(anomaly: Anomaly, call: &Call) -> Violation {
    Violation {
        anomaly,
        call: call.clone(),
    }
}

fn active_after_revocation(calls: &[&Call], rules: &Rules, found: &mut Vec<Violation>) {
    let may_be_unknown = rules.may_lose_login(calls);
    let ends = calls.iter().filter(|call| match &call.outcome {
        // A server that has not heard of a new session yet knows nothing of its end.
        Outcome::Refused(reason) if may_be_unknown && reason == NOT_FOUND => false,
        // Its tombstone may be lost.
        Outcome::ReuseFound if rules.may_lose(call, None) => false,
        Outcome::Done | Outcome::Refused(_) | Outcome::ReuseFound => call.operation != Operation::Validate,
        Outcome::Tokens { .. } | Outcome::Active { .. } | Outcome::Inactive | Outcome::Unknown => false,
    });
    // The first acknowledgement, by each of the two clocks.
    let Some(end) = ends.clone().filter_map(|call| call.ended).min() else {
        return;
    };
    // A reuse without an answer has not revoked the access tokens yet.
    let acknowledged = ends.filter(|call| call.outcome != Outcome::ReuseFound);
    let acknowledged = acknowledged.map(|call| call.ended_at).min().unwrap_or(i64::MAX);
    for call in calls {
        match call.outcome {
            Outcome::Tokens { .. } => {
                if call.started > end {
                    found.push(report(Anomaly::ActiveAfterRevocation, call));
                }
            }
            // The store's clock is this machine's clock: a revocation acknowledged before `as_of` was committed
            // before it.
            Outcome::Active { as_of } => {
                if as_of > acknowledged {
                    found.push(report(Anomaly::AsOfTooRecent, call));
                }
            }
            Outcome::Done | Outcome::Refused(_) | Outcome::ReuseFound | Outcome::Inactive | Outcome::Unknown => {}
        }
    }
}

fn one_successor(calls: &[&Call], rules: &Rules, found: &mut Vec<Violation>) {
    let mut given: HashMap<u32, &str> = HashMap::new();
    let mut by_generation: HashMap<u32, Vec<(&Call, &str, bool)>> = HashMap::new();
    for call in calls {
        let Outcome::Tokens {
            token,
            generation,
            rotated,
        } = &call.outcome
        else {
            continue;
        };
        if *given.entry(*generation).or_insert(token) != token {
            found.push(report(Anomaly::TwoSuccessors, call));
        }
        let Operation::Refresh {
            generation: presented,
            attempt,
        } = &call.operation
        else {
            continue;
        };
        // After lost rotations, the token before the presented one gets the current one too, by any attempt.
        let is_behind = !rotated && *generation == presented + 2 && !rules.losses.is_empty();
        if *generation == presented + 1 {
            let winners = by_generation.entry(*presented).or_default();
            winners.push((*call, attempt.as_str(), *rotated));
        } else if !is_behind {
            found.push(report(Anomaly::TwoSuccessors, call));
        }
    }
    for mut winners in by_generation.into_values() {
        winners.sort_by_key(|(call, ..)| call.ended);
        let (mut attempt, mut has_rotated) = (None, false);
        for (n, &(call, own, rotated)) in winners.iter().enumerate() {
            let differs = attempt.is_some_and(|attempt| attempt != own) || has_rotated && rotated;
            // The rotations before this one may be lost; then it is the first one again.
            let is_again = differs
                && winners[..n]
                    .iter()
                    .all(|(call_before, ..)| rules.may_lose(call_before, call.ended));
            if differs && !is_again {
                found.push(report(Anomaly::TwoWinners, call));
            }
            (attempt, has_rotated) = (Some(own), if is_again { rotated } else { has_rotated || rotated });
        }
    }
}

/// A refusal needs a cause that started before the refusal: a revocation, or a reused token.
fn unexplained_refusal(calls: &[&Call], rules: &Rules, found: &mut Vec<Violation>) {
    let refusals = calls.iter().filter(|call| match (&call.operation, &call.outcome) {
        (Operation::Refresh { .. }, Outcome::Refused(_)) => true,
        (Operation::Validate, Outcome::Inactive) => rules.given_up_calls_end,
        _ => false,
    });
    let mut first_cause = None;
    for call in refusals {
        let Some(end) = call.ended else { continue };
        let is_unknown = matches!(&call.outcome, Outcome::Refused(reason) if reason == NOT_FOUND);
        if is_unknown && rules.may_lose_login(calls) {
            continue;
        }
        let cause = *first_cause.get_or_insert_with(|| earliest_cause(calls, rules));
        if cause.is_none_or(|cause| cause >= end) {
            found.push(report(Anomaly::UnexplainedRefusal, call));
        }
    }
}

/// When the first cause for an end of the session was complete.
fn earliest_cause(calls: &[&Call], rules: &Rules) -> Option<Duration> {
    let revoked = calls.iter().filter(|call| call.operation == Operation::Revoke);
    let revoked = revoked.map(|call| call.started).min();
    let refreshes: Vec<&&Call> = calls
        .iter()
        .filter(|call| matches!(call.operation, Operation::Refresh { .. }))
        .collect();
    let pairs = refreshes
        .iter()
        .flat_map(|one| refreshes.iter().map(move |other| (one, other)));
    let reused = pairs.filter(|(one, other)| reuses(one, other, rules));
    let reused = reused.map(|(one, other)| one.started.max(other.started)).min();
    revoked.into_iter().chain(reused).min()
}

/// Whether `one` may have reached the session after `other` had advanced it, with another attempt id or too late.
fn reuses(one: &Call, other: &Call, rules: &Rules) -> bool {
    let (
        Operation::Refresh { generation, attempt },
        Operation::Refresh {
            generation: further,
            attempt: theirs,
        },
    ) = (&one.operation, &other.operation)
    else {
        return false;
    };
    let may_come_after = one.ended.is_none_or(|ended| ended > other.started);
    let is_older = if rules.given_up_calls_end {
        // The client knew a newer token when it presented this one.
        one.started > other.started && further > generation
    } else {
        further > generation
    };
    may_come_after && (is_older || further == generation && theirs != attempt)
}
