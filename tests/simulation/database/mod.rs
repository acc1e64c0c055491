//! The database as a replica reaches it: the real SQLite store behind a way that fails.

mod accounts;
mod keys;
mod revocations;
pub(crate) mod standby;

use std::sync::Arc;

use countersign::model::{AuditEvent, AuditType, SessionId, Target};
use countersign::store::NewRevocation;
use countersign::store::sqlite::Database;

use crate::link::Link;
use crate::mutants::Mutant;

/// The database as a replica reaches it.
pub(crate) struct SimDatabase {
    pub(crate) real: Database,
    pub(crate) link: Arc<Link>,
    pub(crate) mutant: Option<Mutant>,
}

impl SimDatabase {
    /// The revocation that is recorded: with a defect, the reuse of a token ends another session.
    fn mutated(&self, new: &NewRevocation, audit: &AuditEvent) -> NewRevocation {
        let mut new = new.clone();
        if self.mutant == Some(Mutant::ReuseEndsAnotherSession)
            && audit.kind == AuditType::TokenRefreshReused.as_str()
            && let Target::Session(session) = &mut new.target
        {
            let sessions = self.link.sim.record.sessions.lock();
            let other = sessions.iter().map(|known| known.id.parse::<SessionId>().unwrap());
            *session = other.rev().find(|other| other != session).unwrap_or(*session);
        }
        new
    }
}
