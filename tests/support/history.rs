//! What callers saw of some sessions, and whether a service that tells the truth could have answered so.
//!
//! Calls overlap, and some were never answered. So nothing is said of what must have happened, only of what cannot:
//! each rule compares a call with what had been *answered* before it began, or could still come after it. Clients are
//! those of the policy STRICT, with a grace that no test outlives; no store loses what it has acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// What a caller asked about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To begin it.
    Login,
    /// The successor of this generation.
    Refresh {
        /// The generation presented.
        generation: u32,
        /// The attempt id.
        attempt: String,
    },
    /// To end it, by whatever means.
    Revoke,
    /// Whether an access token of it is good.
    Validate,
}

/// What the caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Tokens: the refresh token, its generation, and whether this very call rotated (a login counts as such).
    Tokens {
        /// The refresh token.
        token: String,
        /// Its generation.
        generation: u32,
        /// Whether it was `ROTATED`.
        rotated: bool,
    },
    /// The revocation is in force.
    Done,
    /// No, for this reason: the session is over.
    Refused(String),
    /// The access token is good, as far as is known as of this moment of the store's clock (Unix milliseconds).
    Active {
        /// `revocations_as_of`.
        as_of: i64,
    },
    /// The access token is not good.
    Inactive,
    /// Nothing, or that it cannot be told: it may have been done, or be done still.
    Unknown,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Of which session.
    pub session: String,
    /// What was asked.
    pub asked: Asked,
    /// What was answered.
    pub answer: Answer,
    /// When it began.
    pub begun: Duration,
    /// When nothing more could come of it: when it was answered. None: it may still be done.
    pub ended: Option<Duration>,
    /// When it ended by the wall clock, in Unix milliseconds.
    pub ended_at: i64,
}

/// What cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The session's end had been acknowledged, and a refresh that began later succeeded.
    AliveAfterItsEnd,
    /// Two different successors of one generation.
    TwoSuccessors,
    /// Two calls, or two attempts, that each won the same generation.
    TwoWinners,
    /// A token was refused though it was the newest, and nobody had ended the session or used a token twice.
    Lost,
    /// Validate claimed to know every revocation of a moment after the session's end, and called its token good.
    ClaimedTooMuch,
}

/// A fault, and the call that shows it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What cannot be.
    pub fault: Fault,
    /// The call.
    pub call: Call,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.fault, self.call)
    }
}

/// Calls, as they come in from many tasks.
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
    /// The time, as the calls have it.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds a call.
    pub fn push(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// Nothing more comes of the calls that were never answered: whoever could still do them is gone.
    pub fn settle(&self) {
        let now = self.now();
        for call in self.calls.lock().unwrap().iter_mut() {
            call.ended.get_or_insert(now);
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// How many of them were answered so.
    pub fn count(&self, which: impl Fn(&Call) -> bool) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| which(call)).count()
    }

    /// What cannot be.
    pub fn violations(&self) -> Vec<Violation> {
        violations(&self.calls.lock().unwrap())
    }

    /// # Panics
    /// If anything that was seen cannot be; with all that was seen of those sessions.
    #[track_caller]
    pub fn assert_possible(&self) {
        let violations = self.violations();
        let Some(first) = violations.first() else { return };
        let calls = self.calls.lock().unwrap();
        let of_it: Vec<String> = calls
            .iter()
            .filter(|call| call.session == first.call.session)
            .map(|call| format!("{call:?}"))
            .collect();
        panic!("{} violations; {first}\n{}", violations.len(), of_it.join("\n"));
    }
}

/// What cannot be among these calls, in any order.
pub fn violations(calls: &[Call]) -> Vec<Violation> {
    let mut sessions: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in calls {
        sessions.entry(&call.session).or_default().push(call);
    }
    let mut found = Vec::new();
    for calls in sessions.values() {
        alive_after_its_end(calls, &mut found);
        one_successor(calls, &mut found);
        lost(calls, &mut found);
    }
    found
}

fn report(fault: Fault, call: &Call) -> Violation {
    Violation {
        fault,
        call: call.clone(),
    }
}

fn alive_after_its_end(calls: &[&Call], found: &mut Vec<Violation>) {
    let ends = calls.iter().filter(|call| match &call.answer {
        Answer::Done | Answer::Refused(_) => call.asked != Asked::Validate,
        Answer::Tokens { .. } | Answer::Active { .. } | Answer::Inactive | Answer::Unknown => false,
    });
    // The first acknowledgement, by each clock.
    let Some(end) = ends.clone().filter_map(|call| call.ended).min() else {
        return;
    };
    let acknowledged = ends.map(|call| call.ended_at).min().unwrap_or(i64::MAX);
    for call in calls {
        match call.answer {
            Answer::Tokens { .. } => {
                if call.begun > end {
                    found.push(report(Fault::AliveAfterItsEnd, call));
                }
            }
            // The store's clock is this machine's: what was acknowledged before that moment was committed before it.
            Answer::Active { as_of } => {
                if as_of > acknowledged {
                    found.push(report(Fault::ClaimedTooMuch, call));
                }
            }
            Answer::Done | Answer::Refused(_) | Answer::Inactive | Answer::Unknown => {}
        }
    }
}

fn one_successor(calls: &[&Call], found: &mut Vec<Violation>) {
    let mut given: HashMap<u32, &str> = HashMap::new();
    let mut winners: HashMap<u32, &str> = HashMap::new();
    let mut won: HashMap<u32, usize> = HashMap::new();
    for call in calls {
        let Answer::Tokens {
            token,
            generation,
            rotated,
        } = &call.answer
        else {
            continue;
        };
        if *given.entry(*generation).or_insert(token) != token {
            found.push(report(Fault::TwoSuccessors, call));
        }
        let Asked::Refresh {
            generation: presented,
            attempt,
        } = &call.asked
        else {
            continue;
        };
        let times = won.entry(*presented).or_default();
        *times += usize::from(*rotated);
        if *generation != presented + 1 {
            found.push(report(Fault::TwoSuccessors, call));
        } else if *times > 1 || *winners.entry(*presented).or_insert(attempt) != attempt {
            found.push(report(Fault::TwoWinners, call));
        }
    }
}

/// A refusal needs a cause: a revocation, or a token that was used twice, that began before the refusal was given.
fn lost(calls: &[&Call], found: &mut Vec<Violation>) {
    for call in calls {
        let (Asked::Refresh { .. }, Answer::Refused(_), Some(end)) = (&call.asked, &call.answer, call.ended) else {
            continue;
        };
        let before: Vec<&&Call> = calls.iter().filter(|other| other.begun < end).collect();
        let ended = before.iter().any(|other| other.asked == Asked::Revoke);
        let used_twice = before.iter().any(|one| before.iter().any(|other| reuses(one, other)));
        if !ended && !used_twice {
            found.push(report(Fault::Lost, call));
        }
    }
}

/// Whether `one` may have come to a session that `other` had taken further, as another attempt or too late.
fn reuses(one: &Call, other: &Call) -> bool {
    let (
        Asked::Refresh { generation, attempt },
        Asked::Refresh {
            generation: further,
            attempt: theirs,
        },
    ) = (&one.asked, &other.asked)
    else {
        return false;
    };
    let may_come_after = one.ended.is_none_or(|ended| ended > other.begun);
    may_come_after && (further > generation || further == generation && theirs != attempt)
}
