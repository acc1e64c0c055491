//! The calls of clients and their results, and the check that a correct service could have given these results.
//!
//! Calls overlap, and some never get an answer. The rules therefore do not say what must have happened, only what
//! cannot have: each rule compares a call with what had been acknowledged before it started, or could still take
//! effect after it. The clients use the policy STRICT with a grace longer than any test. No store loses what it has
//! acknowledged, except as [`Rules`] says.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::errors::Errors;

mod judge;

pub use judge::{Rules, violations, violations_under};

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
    /// The access token is not active, because it is revoked.
    Inactive,
    /// No answer, but the service found the reuse of a token: it refuses the session from now on.
    ReuseFound,
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
    errors: Mutex<Errors>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            calls: Mutex::default(),
            errors: Mutex::default(),
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

    /// Counts an error, by its name.
    pub fn note_error(&self, name: String) {
        *self.errors.lock().unwrap().entry(name).or_default() += 1;
    }

    /// How often each error was answered.
    pub fn errors(&self) -> Errors {
        self.errors.lock().unwrap().clone()
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
        self.assert_consistent_under(&Rules::default());
    }

    /// The same for another deployment.
    ///
    /// # Panics
    ///
    /// If there is an anomaly. The message lists all calls of the first affected session.
    #[track_caller]
    pub fn assert_consistent_under(&self, rules: &Rules) {
        let violations = violations_under(&self.calls.lock().unwrap(), rules);
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
