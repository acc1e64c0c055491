//! A user's live sessions.

use std::sync::Arc;

use super::SCOPE;
use crate::account::Principal;
use crate::model::revocation::RevocationSubject;
use crate::model::session::SessionView;
use crate::model::{ErrorKind, Result, UserId};
use crate::store::{DurableStore, SessionStore};

/// Listing sessions.
pub struct Sessions {
    /// Where they live.
    pub live: Arc<dyn SessionStore>,
    /// Where it is written which of them are revoked.
    pub durable: Arc<dyn DurableStore>,
}

impl Sessions {
    /// A user's live sessions, oldest first; a person may list their own.
    ///
    /// A record may outlive its revocation (the store of sessions was down, or came back from a backup), by longer than
    /// the index in memory goes back: the durable record is asked about all of them.
    pub async fn list(&self, principal: &Principal, user: &str) -> Result<Vec<SessionView>> {
        let user = UserId::parse(user, "user_id")?;
        principal.require_or_self(SCOPE, user)?;
        if self.durable.user(user).await?.is_none() {
            return Err(ErrorKind::UserNotFound.into());
        }
        let (era, _) = self.durable.era().await?;
        let sessions = self.live.list(user, era).await?;
        let revocation_subject: Vec<RevocationSubject> = sessions
            .iter()
            .map(|session| session.revocation_subject(user))
            .collect();
        let revoked = self.durable.revoked(&revocation_subject).await?;
        let alive = sessions.into_iter().zip(revoked).filter(|(_, revoked)| !revoked);
        Ok(alive.map(|(session, _)| session).collect())
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}
