//! Publishing recorded revocations.

use std::sync::Arc;

use super::feed::Feed;
use crate::model::{Revocation, Target};
use crate::store::{Announcements, SessionStore};

/// Publishes a recorded revocation to this replica's index, the live sessions and the other replicas. The record is in
/// force already, so this is best effort: it never fails.
pub struct RevocationPublisher {
    feed: Arc<Feed>,
    sessions: Arc<dyn SessionStore>,
    announcements: Option<Arc<dyn Announcements>>,
}

impl std::fmt::Debug for RevocationPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevocationPublisher")
            .field("announces", &self.announcements.is_some())
            .finish_non_exhaustive()
    }
}

impl RevocationPublisher {
    /// A publisher to these; without announcements there are no other replicas.
    #[must_use]
    pub fn new(
        feed: Arc<Feed>,
        sessions: Arc<dyn SessionStore>,
        announcements: Option<Arc<dyn Announcements>>,
    ) -> Self {
        Self {
            feed,
            sessions,
            announcements,
        }
    }

    /// Publishes a revocation; returns how many live sessions are known to have ended. All sessions of
    /// a user end in one script, or in a few if the user has more than a thousand records.
    pub async fn publish(&self, revocation: &Revocation) -> u32 {
        self.feed.note(revocation);
        let end_live = async {
            let Target::User { id, keep } = &revocation.target else {
                return 0;
            };
            self.sessions
                .end_user(*id, revocation.epoch, *keep)
                .await
                .unwrap_or_else(|error| {
                    tracing::debug!(%error, "cannot end the live sessions of a user; the next use of each ends it");
                    0
                })
        };
        let announce = async {
            let Some(announcements) = &self.announcements else {
                return;
            };
            if let Err(error) = announcements.announce(std::slice::from_ref(revocation)).await {
                tracing::debug!(%error, "cannot announce a revocation; the other replicas learn of it at their next reconciliation");
            }
        };
        tokio::join!(end_live, announce).0
    }
}
