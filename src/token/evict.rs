//! A user's sessions at a client are few: the oldest goes when one more begins.

use super::Tokens;
use crate::model::audit::Origin;
use crate::model::session::SessionView;
use crate::model::{AuditEvent, AuditType, Client, Result, User};

impl Tokens {
    /// Ends the oldest of the user's sessions at the client that are still alive, until the limit holds.
    pub(super) async fn evict(&self, user: &User, client: &Client, crowded: Vec<SessionView>) -> Result<()> {
        let limit = self.config.max_sessions(client) as usize;
        let alive = self.alive(user.id, crowded);
        // The new session is one of the limit.
        let surplus = (alive.len() + 1).saturating_sub(limit);
        for session in alive.into_iter().take(surplus) {
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
