//! What follows a revocation that the durable store has recorded.

use std::sync::Arc;

use super::feed::Feed;
use crate::model::{Revocation, Target};
use crate::store::{Announcements, SessionStore};

/// Carries a recorded revocation to everything that acts on it: this replica's index, the live sessions, the other
/// replicas. The record is in force already, so all of it is best effort and none of it fails.
pub struct RevocationPublisher {
    feed: Arc<Feed>,
    sessions: Arc<dyn SessionStore>,
    announcements: Option<Arc<dyn Announcements>>,
}

impl std::fmt::Debug for RevocationPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spreader")
            .field("announces", &self.announcements.is_some())
            .finish_non_exhaustive()
    }
}

impl RevocationPublisher {
    /// Spreads to these.
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

    /// Spreads one; how many live sessions are known to have ended. O(1) calls: a user's sessions end in one script.
    pub async fn spread(&self, revocation: &Revocation) -> u32 {
        self.feed.note(revocation);
        let end_live = async {
            let Target::User { id, keep } = &revocation.target else {
                return 0;
            };
            self.sessions
                .end_user(*id, revocation.epoch, *keep)
                .await
                .unwrap_or_else(|error| {
                    tracing::debug!(%error, "live sessions are left to their next use");
                    0
                })
        };
        let announce = async {
            let Some(announcements) = &self.announcements else {
                return;
            };
            if let Err(error) = announcements.announce(std::slice::from_ref(revocation)).await {
                tracing::debug!(%error, "an announcement is left to the next reconciliation");
            }
        };
        tokio::join!(end_live, announce).0
    }
}
