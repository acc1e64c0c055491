//! Listing the live sessions of a user.

use std::sync::Arc;

use crate::account::Principal;
use crate::model::revocation::RevocationSubject;
use crate::model::session::SessionView;
use crate::model::{CallerScope, ErrorKind, Result, SessionId, UserId};
use crate::store::{DurableStore, SessionStore};
use crate::throttle::Throttle;

/// Lists the live sessions of a user.
pub struct Sessions {
    /// The store of sessions.
    pub live: Arc<dyn SessionStore>,
    /// The store of users and revocations.
    pub durable: Arc<dyn DurableStore>,
    /// Limits the calls of users on their own account.
    pub throttle: Arc<Throttle>,
}

impl Sessions {
    /// Lists a user's live sessions, oldest first. A user may list their own sessions without a scope.
    ///
    /// The record of a revoked session may still be there (its revocation did not know the user, or the store of sessions
    /// was down or was restored from a backup), and its revocation may be too old for the index in memory. So the durable
    /// store is asked about every session, and the records of revoked ones are removed.
    pub async fn list(&self, principal: &Principal, user: &str) -> Result<Vec<SessionView>> {
        let user = UserId::parse(user, "user_id")?;
        principal.require_or_self(CallerScope::Users, user)?;
        if let Some((user, session)) = principal.on_own_account(CallerScope::Users, user) {
            self.throttle.own_account_call(user, session).await?;
        }
        if self.durable.user(user).await?.is_none() {
            return Err(ErrorKind::UserNotFound.into());
        }
        let (era, _) = self.durable.era().await?;
        let sessions = self.live.list(user, era).await?;
        let subjects: Vec<RevocationSubject> = sessions
            .iter()
            .map(|session| session.revocation_subject(user))
            .collect();
        let revoked = self.durable.revoked(&subjects).await?;
        let (revoked, live): (Vec<_>, Vec<_>) = sessions.into_iter().zip(revoked).partition(|(_, revoked)| *revoked);
        let revoked: Vec<SessionId> = revoked.into_iter().map(|(session, _)| session.id).collect();
        self.live.drop_revoked(user, &revoked).await;
        Ok(live.into_iter().map(|(session, _)| session).collect())
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}
