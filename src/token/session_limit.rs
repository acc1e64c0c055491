//! The limit of a user's live sessions at a client.

use std::sync::Arc;

use super::client_limits::ClientLimits;
use super::revocation_recorder::RevocationRecorder;
use crate::clock::Clock;
use crate::config::Tokens as TokenConfig;
use crate::model::audit::Origin;
use crate::model::revocation::RevocationSubject;
use crate::model::session::{EvictedSession, SessionView};
use crate::model::{AuditEvent, AuditType, Client, Result, SessionId, User};
use crate::secret::Entropy;
use crate::store::RevocationStore;

/// Ends a user's oldest sessions at a client when a new one exceeds the limit.
pub struct SessionLimit {
    /// The durable record, which knows which sessions are revoked.
    pub store: Arc<dyn RevocationStore>,
    /// Records the end of a session.
    pub recorder: Arc<RevocationRecorder>,
    /// The time of audit events.
    pub clock: Arc<dyn Clock>,
    /// The ids of audit events.
    pub entropy: Arc<dyn Entropy>,
    /// The configured limit.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for SessionLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionLimit")
    }
}

impl SessionLimit {
    /// Ends the oldest of the user's live sessions at the client until the limit holds. The durable record decides which
    /// are live: the store of sessions may still have the records of revoked ones, which are removed.
    pub(super) async fn enforce(&self, user: &User, client: &Client, over_limit: Vec<SessionView>) -> Result<()> {
        if over_limit.is_empty() {
            return Ok(());
        }
        let subjects: Vec<RevocationSubject> = over_limit
            .iter()
            .map(|session| session.revocation_subject(user.id))
            .collect();
        let revoked = self.store.revoked(&subjects).await?;
        let (revoked, live): (Vec<_>, Vec<_>) = over_limit.into_iter().zip(revoked).partition(|(_, revoked)| *revoked);
        let revoked: Vec<SessionId> = revoked.into_iter().map(|(session, _)| session.id).collect();
        self.recorder.sessions.drop_revoked(user.id, &revoked).await;
        let limit = ClientLimits::of(client, &self.config).max_sessions_per_user as usize;
        // The new session counts too.
        let surplus = (live.len() + 1).saturating_sub(limit);
        for (session, _) in live.into_iter().take(surplus) {
            let event = self.event(user, client, session.id);
            self.recorder
                .end_session(user.id, session.id, session.absolute_expires, &event)
                .await?;
        }
        Ok(())
    }

    /// Revokes the sessions whose records the store removed because the user had too many. An error is returned after all
    /// were tried, because the records that told of them are gone.
    pub(super) async fn revoke_evicted(
        &self,
        user: &User,
        client: &Client,
        evicted: Vec<EvictedSession>,
    ) -> Result<()> {
        let mut result = Ok(());
        for session in evicted {
            let event = self
                .event(user, client, session.id)
                .with_detail("reason", "too many records");
            let revoked = self
                .recorder
                .record_session_end(session.id, session.expires, &event)
                .await;
            result = result.and(revoked.map(drop));
        }
        result
    }

    fn event(&self, user: &User, client: &Client, session: SessionId) -> AuditEvent {
        let (origin, now) = (Origin::system(), self.clock.now());
        AuditEvent::new(AuditType::SessionEvicted, &user.id, &origin, now, &*self.entropy)
            .with_client(&client.id)
            .with_session(session)
    }
}
