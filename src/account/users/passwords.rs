//! Changing, setting and resetting passwords. Each of these revokes the user's sessions and tokens.

use std::time::Duration;

use super::{Users, require_authority_over};
use crate::account::principal::Principal;
use crate::account::secrets::{self, RESET_TOKEN_PREFIX};
use crate::attempts::{Failure, Subject};
use crate::clock::UnixMillis;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, CallerScope, Error, ErrorKind, Result, SessionId, User, UserId};
use crate::password::MAX_BYTES;
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword};
use crate::throttle::LimitState;

/// How long a reset token is valid.
const RESET_TOKEN_TTL: Duration = Duration::from_mins(15);
/// The prefix and 43 characters of base64url.
const RESET_TOKEN_LEN: usize = RESET_TOKEN_PREFIX.len() + 43;

/// A one-time token that allows setting a new password for one user.
#[derive(Debug)]
pub struct ResetToken {
    /// The token; it is not stored and cannot be shown again.
    pub token: SecretText,
    /// When it expires.
    pub expires: UnixMillis,
}

impl Users {
    /// Replaces the old password by a new one. The session `keep` is not revoked; if `keep` is empty and the caller is the
    /// user, the caller's own session is not revoked.
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
        principal.require_or_self(CallerScope::Users, id)?;
        if let Some((user, session)) = principal.on_own_account(CallerScope::Users, id) {
            self.throttle.own_account_call(user, session).await?;
        }
        let own = principal.person().filter(|(user, _)| *user == id);
        let keep = match keep {
            "" => own.map(|(_, session)| session),
            keep => Some(SessionId::parse(keep, "keep_session_id")?),
        };
        if old.is_empty() || old.expose().len() > MAX_BYTES {
            return Err(Error::invalid("old_password", format!("must be 1-{MAX_BYTES} bytes")));
        }
        // A user may always change their own password, even if they became an admin after their access token was issued.
        let authority = own.map_or(principal.authority(), |_| Authority::Admin);
        let found = self.store.password_hash(id).await?;
        let (user, stored_hash) = found.ok_or(ErrorKind::UserNotFound)?;
        require_authority_over(authority, &user)?;
        self.check_policy(&user, &new, "new_password", deadline).await?;

        self.verify_old_password(principal, &user, &stored_hash, old, deadline)
            .await?;
        let audit = self.trail.event(AuditType::PasswordChanged, &id, principal.origin());
        let hash = self.hashing.hash(new, deadline).await?;
        let new = NewPassword {
            user: id,
            hash,
            verified: Some(stored_hash),
            keep,
        };
        self.store_password(&new, authority, &audit).await
    }

    /// Verifies the old password under the same limits as a login, so that a stolen access token does not allow more
    /// guesses.
    async fn verify_old_password(
        &self,
        principal: &Principal,
        user: &User,
        stored_hash: &SecretText,
        old: SecretText,
        deadline: Duration,
    ) -> Result<()> {
        let attempt = self.throttle.password_proof(&user.username, principal.source());
        let reservation = self.throttle.reserve(&attempt, deadline).await?;
        let stored_hash = Some(stored_hash.clone()).filter(|hash| !hash.is_empty());
        let verdict = match self.hashing.verify(stored_hash, old, deadline).await {
            Ok(verdict) => verdict,
            Err(error) => return Err(reservation.abandon(error).await),
        };
        verdict.log_unusable_hash(&user.id, &principal.origin().request_id);
        let limit_state = reservation.limit_state();
        if verdict.matches && limit_state == LimitState::Open && !user.disabled {
            reservation.succeed().await;
            return Ok(());
        }
        let refusal = reservation.fail().await;
        let kind = match limit_state {
            LimitState::Open => AuditType::PasswordChanged,
            LimitState::Locked => AuditType::Throttled,
        };
        self.attempts.record(&Failure {
            kind,
            grant: None,
            subject: Subject::Account(&user.id.to_string()),
            client: None,
            origin: principal.origin().clone(),
        });
        Err(refusal)
    }

    /// Sets a new password without the old one.
    pub async fn set_password(
        &self,
        principal: &Principal,
        id: &str,
        new: SecretText,
        deadline: Duration,
    ) -> Result<()> {
        let (id, audit) = self.authorize(principal, id, AuditType::PasswordSet)?;
        let user = self.require_user(id).await?;
        require_authority_over(principal.authority(), &user)?;
        let hash = self.hash_new(&user, new, "new_password", deadline).await?;
        let new = NewPassword {
            user: id,
            hash,
            verified: None,
            keep: None,
        };
        self.store_password(&new, principal.authority(), &audit).await
    }

    /// Creates a one-time token for a password reset. It replaces an earlier token of the user.
    pub async fn begin_reset(&self, principal: &Principal, id: &str) -> Result<ResetToken> {
        let (id, audit) = self.authorize(principal, id, AuditType::PasswordResetBegun)?;
        let expires = self.clock.now().plus(RESET_TOKEN_TTL);
        let (token, hash) = secrets::generate(RESET_TOKEN_PREFIX, self.entropy.as_ref());
        let authority = principal.authority();
        self.store
            .begin_password_reset(id, hash, expires, authority, &audit)
            .await?;
        Ok(ResetToken { token, expires })
    }

    /// Sets a new password with a one-time token and returns the user. The token is the credential: the caller needs no
    /// scope. A password that is refused leaves the token valid.
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
        // Text that cannot be a reset token is refused before the store is asked.
        if token.expose().len() != RESET_TOKEN_LEN || !token.expose().starts_with(RESET_TOKEN_PREFIX) {
            return Err(ErrorKind::ResetTokenInvalid.into());
        }
        let token_hash = secrets::hash(token);
        let found = self.store.password_reset_user(token_hash, self.clock.now()).await?;
        let Some(user) = found else {
            let wrong = ErrorKind::ResetTokenInvalid;
            return Err(self.throttle.wrong_secret(principal.source(), wrong).await);
        };
        self.throttle.password_reset(user.id).await?;
        let hash = self.hash_new(&user, new, "new_password", deadline).await?;
        let origin = Origin {
            actor: user.id.to_string(),
            ..principal.origin().clone()
        };
        let audit = self.trail.event(AuditType::PasswordResetCompleted, &user.id, &origin);
        let revocation = self.store.complete_password_reset(token_hash, &hash, &audit).await?;
        self.publish(Some(&revocation)).await;
        Ok(user.id)
    }

    /// Checks a new password against the policy and returns its hash.
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

    async fn store_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<()> {
        let revocation = self.store.set_password(new, authority, audit).await?;
        self.publish(Some(&revocation)).await;
        Ok(())
    }
}
