//! [`UserStore`] on SQLite: each verb is one closure.

use async_trait::async_trait;

use super::{SqliteStore, logins, passwords, people};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ClientId, Epochs, Result, Revocation, SessionId, User, UserId, Username};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword, NewUser, UserChange};
use crate::store::change::{storable, storable_change, storable_event, storable_user};
use crate::store::{Login, Page, RefreshView, UserStore};

#[async_trait]
impl UserStore for SqliteStore {
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login> {
        let (name, client) = (name.clone(), client.clone());
        self.db.read(move |tx| logins::login(tx, &name, &client)).await
    }

    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView> {
        let client = client.clone();
        self.db
            .read(move |tx| logins::refresh_view(tx, user, &client, session, epochs))
            .await
    }

    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()> {
        storable_event(audit)?;
        let audit = audit.clone();
        self.db
            .call(move |tx| people::logged_in(tx, user, at, rehash.as_ref(), &audit))
            .await
    }

    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()> {
        storable_user(&new.user)?;
        storable_event(audit)?;
        let (new, audit) = (new.clone(), audit.clone());
        self.db
            .call(move |tx| people::create(tx, &new, authority, &audit))
            .await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.db.read(move |tx| people::by_id(tx, id)).await
    }

    async fn user_by_name(&self, name: &Username) -> Result<Option<User>> {
        let name = name.clone();
        self.db.read(move |tx| people::by_name(tx, &name)).await
    }

    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>> {
        self.db.read(move |tx| passwords::hash(tx, id)).await
    }

    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>> {
        storable("query", [prefix])?;
        let prefix = prefix.to_owned();
        self.db.read(move |tx| people::list(tx, &prefix, after, limit)).await
    }

    async fn update_user(
        &self,
        id: UserId,
        change: &UserChange,
        expected: Option<UnixMillis>,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)> {
        storable_change(change)?;
        storable_event(audit)?;
        let (change, audit) = (change.clone(), audit.clone());
        self.db
            .call(move |tx| people::update(tx, id, &change, expected, authority, &audit))
            .await
    }

    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)> {
        storable_event(audit)?;
        let audit = audit.clone();
        self.db
            .call(move |tx| people::set_disabled(tx, id, disabled, authority, &audit))
            .await
    }

    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        storable_event(audit)?;
        let audit = audit.clone();
        self.db.call(move |tx| people::delete(tx, id, authority, &audit)).await
    }

    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        storable_event(audit)?;
        let (new, audit) = (new.clone(), audit.clone());
        self.db
            .call(move |tx| passwords::set(tx, &new, authority, &audit))
            .await
    }

    async fn begin_password_reset(
        &self,
        id: UserId,
        token_hash: [u8; 32],
        expires: UnixMillis,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<()> {
        storable_event(audit)?;
        let audit = audit.clone();
        self.db
            .call(move |tx| passwords::begin_reset(tx, id, &token_hash, expires, authority, &audit))
            .await
    }

    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>> {
        self.db
            .read(move |tx| passwords::reset_user(tx, &token_hash, now))
            .await
    }

    async fn complete_password_reset(
        &self,
        token_hash: [u8; 32],
        hash: &SecretText,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        storable_event(audit)?;
        let (hash, audit) = (hash.clone(), audit.clone());
        self.db
            .call(move |tx| passwords::complete_reset(tx, &token_hash, &hash, &audit))
            .await
    }
}
