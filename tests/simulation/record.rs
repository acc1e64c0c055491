//! What the clients of a run asked for and were answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::model::SessionId;
use countersign::model::session::Presented;
use parking_lot::Mutex;

use crate::support::history::{Call, Operation, Outcome};

/// How long after its acknowledgement every replica knows a revocation, if nothing fails.
const ANNOUNCED_AFTER: Duration = Duration::from_millis(30);

/// How long after a promotion the lost revocations are written back.
const WRITTEN_BACK_AFTER: Duration = Duration::from_secs(3);

/// A session whose tokens a client got.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user: usize,
    pub(crate) client: usize,
    /// When the login began and when it was answered.
    pub(crate) login: (Duration, Duration),
    /// The refresh tokens, by generation.
    pub(crate) refresh: Mutex<BTreeMap<u32, String>>,
    /// The access tokens, oldest first.
    pub(crate) access: Mutex<Vec<String>>,
}

impl Session {
    pub(crate) fn newest(&self) -> (u32, String) {
        let refresh = self.refresh.lock();
        let (generation, token) = refresh.last_key_value().expect("a login gives a token");
        (*generation, token.clone())
    }

    /// Notes the tokens that the owner got.
    pub(crate) fn learn(&self, generation: u32, refresh: String, access: String) {
        self.refresh.lock().entry(generation).or_insert(refresh);
        self.access.lock().push(access);
    }

    pub(crate) fn newest_access(&self) -> String {
        self.access.lock().last().expect("a login gives a token").clone()
    }
}

/// Which sessions a revocation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Session(String),
    User { user: usize, keep: Option<String> },
    Client(usize),
    Everything,
}

impl Scope {
    fn covers(&self, session: &Session) -> bool {
        match self {
            Self::Session(id) => *id == session.id,
            Self::User { user, keep } => *user == session.user && keep.as_ref() != Some(&session.id),
            Self::Client(client) => *client == session.client,
            Self::Everything => true,
        }
    }
}

/// A revocation.
#[derive(Clone, Debug)]
pub(crate) struct Revocation {
    pub(crate) scope: Scope,
    pub(crate) started: Duration,
    /// When it was acknowledged, by the time of the run and by the time of the stores. None: it may be in force or not.
    pub(crate) acknowledged: Option<(Duration, i64)>,
    /// When the call was over, so that it can have no later effect. None: it may still take effect.
    pub(crate) over: Option<Duration>,
}

/// Everything that the clients know, and what the store of sessions said.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) sessions: Mutex<Vec<Arc<Session>>>,
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) revocations: Mutex<Vec<Revocation>>,
    /// The sessions of which the store of sessions said that a token was reused, with a request that has the current
    /// generation.
    pub(crate) reused: Mutex<BTreeMap<SessionId, Presented>>,
    /// When the store of sessions lost what it had acknowledged.
    pub(crate) losses: Mutex<Vec<Duration>>,
    /// When the database was replaced: when the standby had stopped to follow, and when it was promoted.
    pub(crate) promotions: Mutex<Vec<(Duration, Duration)>>,
    /// What cannot be, as found while the run went on.
    pub(crate) findings: Mutex<Vec<String>>,
}

impl Record {
    pub(crate) fn find(&self, finding: String) {
        self.findings.lock().push(finding);
    }

    /// Notes that the store of sessions lost what it had acknowledged, tombstones among it.
    pub(crate) fn lose(&self, now: Duration) {
        self.losses.lock().push(now);
        self.reused.lock().clear();
    }

    /// Whether the store of sessions may have lost something about this session.
    pub(crate) fn may_be_lost(&self, session: &str) -> bool {
        let sessions = self.sessions.lock();
        let session = sessions.iter().find(|known| known.id == session);
        let last = self.losses.lock().last().copied();
        session.zip(last).is_some_and(|(session, last)| session.login.0 <= last)
    }

    /// All calls, with one call of each revocation for each session that it may have ended.
    pub(crate) fn history(&self) -> Vec<Call> {
        let mut calls = self.calls.lock().clone();
        for call in &mut calls {
            // The store of sessions has lost it: that is no end that anything else knows of.
            if call.outcome == Outcome::Refused("SESSION_NOT_FOUND".to_owned()) && self.may_be_lost(&call.session) {
                call.outcome = Outcome::Unknown;
            }
        }
        let sessions = self.sessions.lock();
        for revocation in self.revocations.lock().iter() {
            for session in sessions.iter().filter(|session| revocation.scope.covers(session)) {
                let Some(outcome) = self.outcome(revocation, session) else {
                    continue;
                };
                let ended_at = revocation.acknowledged.map(|(_, at)| at);
                calls.push(Call {
                    session: session.id.clone(),
                    operation: Operation::Revoke,
                    outcome,
                    started: revocation.started,
                    ended: revocation.over,
                    ended_at: ended_at.unwrap_or(i64::MAX),
                });
            }
        }
        calls
    }

    /// The effect of a revocation on a session. None: it came too early to end the session.
    fn outcome(&self, revocation: &Revocation, session: &Session) -> Option<Outcome> {
        let (began, answered) = session.login;
        let promotions = self.promotions.lock();
        if let Some(over) = revocation.over.filter(|over| *over < began) {
            // A login at the promoted standby read the epochs from before the revocation, until that was written back.
            let is_lost = |(stopped, promoted): &(Duration, Duration)| {
                over >= *stopped && began <= *promoted + WRITTEN_BACK_AFTER
            };
            return promotions.iter().any(is_lost).then_some(Outcome::Unknown);
        }
        // The other replicas learn of a revocation some milliseconds after the acknowledgement.
        let is_racing = promotions.iter().any(|(_, promoted)| {
            let acknowledged = revocation.acknowledged.map(|(at, _)| at);
            acknowledged.is_some_and(|at| at.abs_diff(*promoted) <= ANNOUNCED_AFTER)
        });
        let is_certain = matches!(revocation.scope, Scope::Session(_)) || answered <= revocation.started;
        // A login that overlaps the revocation may have read the epochs before or after it.
        Some(if revocation.acknowledged.is_some() && is_certain && !is_racing {
            Outcome::Done
        } else {
            Outcome::Unknown
        })
    }
}
