use async_trait::async_trait;

use super::{Audited, tell, tell_if};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ClientId, Epochs, Result, Revocation, SessionId, User, UserId, Username};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, Login, NewPassword, NewUser, Page, RefreshView, UserChange, UserStore};

#[async_trait]
impl<S: UserStore> UserStore for Audited<S> {
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login> {
        self.0.login(name, client).await
    }

    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView> {
        self.0.refresh_view(user, client, session, epochs).await
    }

    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()> {
        self.0.logged_in(user, at, rehash, audit).await?;
        tell(audit);
        Ok(())
    }

    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()> {
        self.0.create_user(new, authority, audit).await?;
        tell(audit);
        Ok(())
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.0.user(id).await
    }

    async fn user_by_name(&self, name: &Username) -> Result<Option<User>> {
        self.0.user_by_name(name).await
    }

    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>> {
        self.0.password_hash(id).await
    }

    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>> {
        self.0.list_users(prefix, after, limit).await
    }

    async fn update_user(
        &self,
        id: UserId,
        change: &UserChange,
        expected: Option<UnixMillis>,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)> {
        let done = self.0.update_user(id, change, expected, authority, audit).await?;
        Ok(tell_if(true, audit, done))
    }

    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)> {
        let done = self.0.set_user_disabled(id, disabled, authority, audit).await?;
        Ok(tell_if(true, audit, done))
    }

    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        let done = self.0.delete_user(id, authority, audit).await?;
        Ok(tell_if(true, audit, done))
    }

    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        let done = self.0.set_password(new, authority, audit).await?;
        Ok(tell_if(true, audit, done))
    }

    async fn begin_password_reset(
        &self,
        id: UserId,
        token_hash: [u8; 32],
        expires: UnixMillis,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<()> {
        let begun = self.0.begin_password_reset(id, token_hash, expires, authority, audit);
        begun.await?;
        tell(audit);
        Ok(())
    }

    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>> {
        self.0.password_reset_user(token_hash, now).await
    }

    async fn complete_password_reset(
        &self,
        token_hash: [u8; 32],
        hash: &SecretText,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        let done = self.0.complete_password_reset(token_hash, hash, audit).await?;
        Ok(tell_if(true, audit, done))
    }
}
