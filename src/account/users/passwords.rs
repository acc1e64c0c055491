//! Passwords: changing, setting and resetting them. Each ends the user's sessions and tokens.

use std::time::Duration;

use super::{Users, may_touch};
use crate::account::principal::Principal;
use crate::account::secrets::{self, RESET_TOKEN_PREFIX};
use crate::clock::UnixMillis;
use crate::model::audit::{Origin, Outcome};
use crate::model::{AuditEvent, AuditType, Error, ErrorKind, Result, SessionId, User, UserId};
use crate::password::MAX_BYTES;
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword};
use crate::throttle::LimitState;

/// How long a token for a reset is good.
const RESET_LIFE: Duration = Duration::from_mins(15);
/// The prefix and 43 characters of base64url.
const RESET_TOKEN_LEN: usize = RESET_TOKEN_PREFIX.len() + 43;

/// A one-time token with which its holder can set a user's password.
#[derive(Debug)]
pub struct ResetToken {
    /// Shown once.
    pub token: SecretText,
    /// Until when it is good.
    pub expires: UnixMillis,
}

impl Users {
    /// Changes a password for the old one. The session `keep` lives on; where none is named, the caller's own if the
    /// caller is that user.
    pub async fn change_password(
        &self,
        principal: &Principal,
        id: &str,
        old: SecretText,
        new: SecretText,
        keep: &str,
        deadline: Duration,
    ) -> Result<()> {
        let id = UserId::parse(id, "user_id")?;
        principal.require_or_self(super::SCOPE, id)?;
        let own = principal.person().filter(|(user, _)| *user == id);
        let keep = match keep {
            "" => own.map(|(_, session)| session),
            keep => Some(SessionId::parse(keep, "keep_session_id")?),
        };
        if old.is_empty() || old.expose().len() > MAX_BYTES {
            return Err(Error::invalid("old_password", format!("must be 1-{MAX_BYTES} bytes")));
        }
        // A person may always change their own password, even if they became an admin after their token was made.
        let authority = own.map_or(principal.authority(), |_| Authority::Admin);
        let found = self.store.password_hash(id).await?;
        let (user, stored) = found.ok_or(ErrorKind::UserNotFound)?;
        may_touch(authority, &user)?;
        self.check_policy(&user, &new, "new_password", deadline).await?;

        self.prove(principal, &user, &stored, old, deadline).await?;
        let audit = self.trail.event(AuditType::PasswordChanged, &id, principal.origin());
        let hash = self.hashing.hash(new, deadline).await?;
        let new = NewPassword {
            user: id,
            hash,
            verified: Some(stored),
            keep,
        };
        self.replace(&new, authority, &audit).await
    }

    /// Checks the old password. Guessing it costs what guessing at a login costs: a stolen access token is no way round.
    async fn prove(
        &self,
        principal: &Principal,
        user: &User,
        stored: &SecretText,
        old: SecretText,
        deadline: Duration,
    ) -> Result<()> {
        let attempt = self.throttle.proof(&user.username, &principal.origin().ip_address);
        let reservation = self.throttle.reserve(&attempt, deadline).await?;
        let known = Some(stored.clone()).filter(|hash| !hash.is_empty());
        let verdict = match self.hashing.verify(known, old, deadline).await {
            Ok(verdict) => verdict,
            Err(error) if error.kind == ErrorKind::DeadlineExceeded => return Err(error),
            Err(error) => {
                reservation.undone().await;
                return Err(error);
            }
        };
        verdict.log_unfit(&user.id, &principal.origin().request_id);
        let limit_state = reservation.limit_state();
        if verdict.matches && limit_state == LimitState::Open && !user.disabled {
            reservation.succeeded().await;
            return Ok(());
        }
        reservation.failed().await;
        let kind = match limit_state {
            LimitState::Open => AuditType::PasswordChanged,
            LimitState::Locked => AuditType::Throttled,
        };
        let event = self.trail.event(kind, &user.id, principal.origin());
        // Nothing was changed: a trail that cannot be written must not turn the answer into an outage.
        let event = event.with_outcome(Outcome::Denied);
        if let Err(error) = self.trail.append(&event).await {
            tracing::warn!(request_id = event.origin.request_id, %error, kind = event.kind, "an audit event could not be written");
        }
        Err(ErrorKind::InvalidCredentials.into())
    }

    /// Sets a password without the old one.
    pub async fn set_password(
        &self,
        principal: &Principal,
        id: &str,
        new: SecretText,
        deadline: Duration,
    ) -> Result<()> {
        let (id, audit) = self.managed(principal, id, AuditType::PasswordSet)?;
        let user = self.existing(id).await?;
        may_touch(principal.authority(), &user)?;
        let hash = self.hash_new(&user, new, "new_password", deadline).await?;
        let new = NewPassword {
            user: id,
            hash,
            verified: None,
            keep: None,
        };
        self.replace(&new, principal.authority(), &audit).await
    }

    /// Makes a one-time token for a reset. It replaces an outstanding one.
    pub async fn begin_reset(&self, principal: &Principal, id: &str) -> Result<ResetToken> {
        let (id, audit) = self.managed(principal, id, AuditType::PasswordResetBegun)?;
        let expires = self.clock.now().plus(RESET_LIFE);
        let (token, hash) = secrets::generate(RESET_TOKEN_PREFIX, self.entropy.as_ref());
        let authority = principal.authority();
        self.store
            .begin_password_reset(id, hash, expires, authority, &audit)
            .await?;
        Ok(ResetToken { token, expires })
    }

    /// Sets a password for a one-time token, whoever holds it; whose it was. A password that is refused does not use
    /// the token up.
    pub async fn complete_reset(
        &self,
        principal: &Principal,
        token: &SecretText,
        new: SecretText,
        deadline: Duration,
    ) -> Result<UserId> {
        if token.is_empty() {
            return Err(Error::invalid("reset_token", "must not be empty"));
        }
        // Only what could be a token reaches the store.
        if token.expose().len() != RESET_TOKEN_LEN || !token.expose().starts_with(RESET_TOKEN_PREFIX) {
            return Err(ErrorKind::ResetTokenInvalid.into());
        }
        let token = secrets::stored(token);
        let found = self.store.password_reset_user(token, self.clock.now()).await?;
        let user = found.ok_or(ErrorKind::ResetTokenInvalid)?;
        let hash = self.hash_new(&user, new, "new_password", deadline).await?;
        let origin = Origin {
            actor: user.id.to_string(),
            ..principal.origin().clone()
        };
        let audit = self.trail.event(AuditType::PasswordResetCompleted, &user.id, &origin);
        let revocation = self.store.complete_password_reset(token, &hash, &audit).await?;
        self.end(Some(&revocation)).await;
        Ok(user.id)
    }

    /// The hash of a new password that the policy accepts.
    pub(super) async fn hash_new(
        &self,
        user: &User,
        password: SecretText,
        field: &'static str,
        deadline: Duration,
    ) -> Result<SecretText> {
        self.check_policy(user, &password, field, deadline).await?;
        self.hashing.hash(password, deadline).await
    }

    async fn check_policy(
        &self,
        user: &User,
        password: &SecretText,
        field: &'static str,
        deadline: Duration,
    ) -> Result<()> {
        let context = [user.username.as_str(), &user.email, &user.display_name];
        self.hashing.check(password, field, &context, deadline).await
    }

    async fn replace(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<()> {
        let revocation = self.store.set_password(new, authority, audit).await?;
        self.end(Some(&revocation)).await;
        Ok(())
    }
}
