//! Recording a revocation: the durable record first (that is the acknowledgement), then the live session, then the
//! announcement.
//!
//! A crash after the record leaves the revocation in force: Refresh asks the record, and every replica reconciles with
//! it. Nothing after the record can fail the call.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Error, Result, SessionId, Target, UserId};
use crate::revocation::{Feed, RevocationPublisher};
use crate::store::{Expiry, NewRevocation, Recorded, RevocationStore, SessionStore};

/// Records revocations and publishes them.
pub struct RevocationRecorder {
    /// The durable record.
    pub store: Arc<dyn RevocationStore>,
    /// The live sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Ends live sessions and announces the revocation, after the record.
    pub publisher: Arc<RevocationPublisher>,
    /// This replica's index.
    pub feed: Arc<Feed>,
    /// The tolerated clock difference: an expired access token is accepted for this long.
    pub leeway: Duration,
}

impl std::fmt::Debug for RevocationRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RevocationRecorder")
    }
}

impl RevocationRecorder {
    /// Records a revocation and publishes it if it is news. Returns how many live sessions are known to have ended.
    pub(super) async fn revoke(&self, target: Target, expires: Expiry, event: AuditEvent) -> Result<u32> {
        let (recorded, is_news) = self.record(target, expires, event).await?;
        Ok(self.publish_news(&recorded, is_news).await)
    }

    /// Records the end of one user's session, ends it, and publishes that if it is new. Returns whether it was alive until
    /// then.
    pub(super) async fn revoke_session_of_user(
        &self,
        subject: &RevocationSubject,
        (user, session): (UserId, SessionId),
        expires: Expiry,
        event: AuditEvent,
    ) -> Result<bool> {
        let revoked_before = self.feed.index().is_revoked(subject);
        let (recorded, is_news) = self.record(Target::Session(session), expires, event).await?;
        // Also if the row was there before: the replica that wrote it may have stopped before this step.
        let ended = self.end_live(user, session).await;
        self.publish_news(&recorded, is_news).await;
        // Another revocation may have ended the session and left its record in the store of sessions.
        Ok(ended && recorded.new && !revoked_before)
    }

    /// Records and publishes the end of a session whose record the store of sessions has replaced or removed already.
    pub(super) async fn record_session_end(
        &self,
        session: SessionId,
        expires: UnixMillis,
        event: &AuditEvent,
    ) -> Result<Recorded> {
        // The last access token may be accepted for the leeway longer.
        let expires = Expiry::At(expires.plus(self.leeway));
        let (recorded, is_news) = self.record(Target::Session(session), expires, event.clone()).await?;
        self.publish_news(&recorded, is_news).await;
        Ok(recorded)
    }

    /// Records and publishes the end of a session, and ends it.
    pub(super) async fn end_session(
        &self,
        user: UserId,
        session: SessionId,
        expires: UnixMillis,
        event: &AuditEvent,
    ) -> Result<()> {
        self.record_session_end(session, expires, event).await?;
        self.end_live(user, session).await;
        Ok(())
    }

    /// Records a revocation in a task of its own, so that a cancelled call does not leave it half done. Waits for it. Returns also
    /// whether it was news to this replica.
    async fn record(&self, target: Target, expires: Expiry, event: AuditEvent) -> Result<(Recorded, bool)> {
        let (store, feed) = (Arc::clone(&self.store), Arc::clone(&self.feed));
        // What a replaced database server records is no acknowledgement.
        feed.check_side()?;
        let record = async move {
            let recorded = store.revoke(&NewRevocation { target, expires }, &event).await?;
            let is_news = recorded
                .revocation
                .as_ref()
                .is_some_and(|revocation| feed.note(revocation));
            // Found out meanwhile: the caller asks again, and this replica writes the revocation to the later server.
            feed.check_side()?;
            Ok((recorded, is_news))
        };
        let task = tokio::spawn(record.in_current_span());
        task.await.map_err(Error::internal)?
    }

    /// Publishes a revocation that this call wrote, or that an earlier call wrote which failed before it could announce it. One
    /// that this replica knew has been announced, or is found by the reconciliation of each replica.
    async fn publish_news(&self, recorded: &Recorded, is_news: bool) -> u32 {
        match &recorded.revocation {
            Some(revocation) if recorded.new || is_news => self.publisher.publish(revocation).await,
            Some(_) | None => 0,
        }
    }

    async fn end_live(&self, user: UserId, session: SessionId) -> bool {
        self.sessions.end(user, session).await.unwrap_or_else(|error| {
            tracing::debug!(%error, %session, "cannot end a live session; its next use ends it");
            false
        })
    }
}
