//! A user's sessions at a client are few: the oldest goes when one more begins.

use super::Tokens;
use crate::model::audit::Origin;
use crate::model::revocation::RevocationSubject;
use crate::model::session::SessionView;
use crate::model::{AuditEvent, AuditType, Client, Result, User};

impl Tokens {
    /// Ends the oldest of the user's sessions at the client that are still alive, until the limit holds. Which are alive the
    /// durable record says: a record of a dead session may have outlived its place in the index.
    pub(super) async fn enforce_session_limit(
        &self,
        user: &User,
        client: &Client,
        over_limit: Vec<SessionView>,
    ) -> Result<()> {
        let limit = self.config.max_sessions(client) as usize;
        if over_limit.is_empty() {
            return Ok(());
        }
        let revocation_subject: Vec<RevocationSubject> = over_limit
            .iter()
            .map(|session| session.revocation_subject(user.id))
            .collect();
        let revoked = self.durable.revoked(&revocation_subject).await?;
        let alive: Vec<_> = over_limit
            .into_iter()
            .zip(revoked)
            .filter(|(_, revoked)| !revoked)
            .collect();
        // The new session is one of the limit.
        let surplus = (alive.len() + 1).saturating_sub(limit);
        for (session, _) in alive.into_iter().take(surplus) {
            let event = AuditEvent::new(
                AuditType::SessionEvicted,
                &user.id,
                &Origin::system(),
                self.clock.now(),
                &*self.entropy,
            )
            .with_client(&client.id)
            .with_session(session.id);
            self.end_session(user.id, session.id, session.absolute_expires, &event)
                .await?;
        }
        Ok(())
    }
}
