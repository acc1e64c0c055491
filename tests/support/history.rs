//! The calls of clients and their results, and the check that a correct service could have given these results.
//!
//! Calls overlap, and some never get an answer. The rules therefore do not say what must have happened, only what
//! cannot have: each rule compares a call with what had been acknowledged before it started, or could still take
//! effect after it. The clients use the policy STRICT with a grace longer than any test, and no store loses what it
//! has acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Begin a session.
    Login,
    /// The successor of this generation.
    Refresh {
        /// The generation presented.
        generation: u32,
        /// The attempt id.
        attempt: String,
    },
    /// Revoke the session, by any target.
    Revoke,
    /// Whether an access token of the session is active.
    Validate,
}

/// The result of a call, as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Tokens: the refresh token, its generation, and whether this very call rotated (a login counts as a rotation).
    Tokens {
        /// The refresh token.
        token: String,
        /// Its generation.
        generation: u32,
        /// Whether the outcome was `ROTATED`.
        rotated: bool,
    },
    /// The revocation was acknowledged.
    Done,
    /// Refused with this reason: the session is over.
    Refused(String),
    /// The access token is active, as of this moment of the store's clock (Unix milliseconds).
    Active {
        /// `revocations_as_of`.
        as_of: i64,
    },
    /// The access token is not active.
    Inactive,
    /// No answer, or an error that leaves it open: the call may have taken effect, or may still do so.
    Unknown,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The session id.
    pub session: String,
    /// What the client asked for.
    pub operation: Operation,
    /// The result.
    pub outcome: Outcome,
    /// When the call started.
    pub started: Duration,
    /// When the call was answered, so that it can have no later effect. `None`: it may still take effect.
    pub ended: Option<Duration>,
    /// When the call ended by the wall clock, in Unix milliseconds.
    pub ended_at: i64,
}

/// Something that a correct service cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// A refresh succeeded that started after a revocation of its session was acknowledged.
    ActiveAfterRevocation,
    /// Two different successors of one generation.
    TwoSuccessors,
    /// Two calls, or two attempts, rotated the same generation.
    TwoWinners,
    /// The newest token was refused, although the session was not revoked and no token was reused.
    UnexplainedRefusal,
    /// Validate called a token active, with a `revocations_as_of` later than the acknowledged revocation of its
    /// session.
    AsOfTooRecent,
}

/// An anomaly, and the call that shows it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The kind.
    pub anomaly: Anomaly,
    /// The call.
    pub call: Call,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.anomaly, self.call)
    }
}

/// Calls recorded by many tasks.
#[derive(Debug)]
pub struct History {
    start: Instant,
    calls: Mutex<Vec<Call>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            calls: Mutex::default(),
        }
    }
}

impl History {
    /// The time since the history began.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds a call.
    pub fn push(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// Marks all unanswered calls as ended: the process that could still execute them is gone.
    pub fn close_unanswered(&self) {
        let now = self.now();
        for call in self.calls.lock().unwrap().iter_mut() {
            call.ended.get_or_insert(now);
        }
    }

    /// The number of calls.
    pub fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// The number of calls for which `which` holds.
    pub fn count(&self, which: impl Fn(&Call) -> bool) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| which(call)).count()
    }

    /// All anomalies found so far.
    pub fn violations(&self) -> Vec<Violation> {
        violations(&self.calls.lock().unwrap())
    }

    /// # Panics
    ///
    /// If there is an anomaly. The message lists all calls of the first affected session.
    #[track_caller]
    pub fn assert_consistent(&self) {
        let violations = self.violations();
        let Some(first) = violations.first() else { return };
        let calls = self.calls.lock().unwrap();
        let of_session: Vec<String> = calls
            .iter()
            .filter(|call| call.session == first.call.session)
            .map(|call| format!("{call:?}"))
            .collect();
        panic!("{} anomalies; {first}\n{}", violations.len(), of_session.join("\n"));
    }
}

/// All anomalies among these calls, in any order.
pub fn violations(calls: &[Call]) -> Vec<Violation> {
    let mut sessions: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in calls {
        sessions.entry(&call.session).or_default().push(call);
    }
    let mut found = Vec::new();
    for calls in sessions.values() {
        active_after_revocation(calls, &mut found);
        one_successor(calls, &mut found);
        unexplained_refusal(calls, &mut found);
    }
    found
}

fn report(anomaly: Anomaly, call: &Call) -> Violation {
    Violation {
        anomaly,
        call: call.clone(),
    }
}

fn active_after_revocation(calls: &[&Call], found: &mut Vec<Violation>) {
    let ends = calls.iter().filter(|call| match &call.outcome {
        Outcome::Done | Outcome::Refused(_) => call.operation != Operation::Validate,
        Outcome::Tokens { .. } | Outcome::Active { .. } | Outcome::Inactive | Outcome::Unknown => false,
    });
    // The first acknowledgement, by each of the two clocks.
    let Some(end) = ends.clone().filter_map(|call| call.ended).min() else {
        return;
    };
    let acknowledged = ends.map(|call| call.ended_at).min().unwrap_or(i64::MAX);
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
            Outcome::Done | Outcome::Refused(_) | Outcome::Inactive | Outcome::Unknown => {}
        }
    }
}

fn one_successor(calls: &[&Call], found: &mut Vec<Violation>) {
    let mut given: HashMap<u32, &str> = HashMap::new();
    let mut winners: HashMap<u32, &str> = HashMap::new();
    let mut won: HashMap<u32, usize> = HashMap::new();
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
        let times = won.entry(*presented).or_default();
        *times += usize::from(*rotated);
        if *generation != presented + 1 {
            found.push(report(Anomaly::TwoSuccessors, call));
        } else if *times > 1 || *winners.entry(*presented).or_insert(attempt) != attempt {
            found.push(report(Anomaly::TwoWinners, call));
        }
    }
}

/// A refusal needs a cause that started before the refusal: a revocation, or a reused token.
fn unexplained_refusal(calls: &[&Call], found: &mut Vec<Violation>) {
    for call in calls {
        let (Operation::Refresh { .. }, Outcome::Refused(_), Some(end)) = (&call.operation, &call.outcome, call.ended)
        else {
            continue;
        };
        let before: Vec<&&Call> = calls.iter().filter(|other| other.started < end).collect();
        let ended = before.iter().any(|other| other.operation == Operation::Revoke);
        let used_twice = before.iter().any(|one| before.iter().any(|other| reuses(one, other)));
        if !ended && !used_twice {
            found.push(report(Anomaly::UnexplainedRefusal, call));
        }
    }
}

/// Whether `one` may have reached the session after `other` had advanced it, with another attempt id or too late.
fn reuses(one: &Call, other: &Call) -> bool {
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
    may_come_after && (further > generation || further == generation && theirs != attempt)
}
