//! [`UserStore`] on PostgreSQL.

use async_trait::async_trait;
use sqlx::Row as _;

use super::error::Failure;
use super::pool::How::{Once, Repeatable, Transaction};
use super::{PostgresStore, logins, passwords, people};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ClientId, Epochs, ErrorKind, Result, Revocation, SessionId, User, UserId, Username};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword, NewUser, UserChange};
use crate::store::change::{may_hold, storable, storable_change, storable_event, storable_user};
use crate::store::{Login, Page, RefreshView, UserStore};

#[async_trait]
impl UserStore for PostgresStore {
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login> {
        self.only(logins::login(name, client), logins::read_login).await
    }

    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView> {
        let statement = logins::refresh_view(user, client, session, epochs);
        self.only(statement, logins::read_refresh_view).await
    }

    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()> {
        storable_event(audit)?;
        let statement = people::logged_in(user, at, rehash, audit).map_err(Failure::into_error)?;
        self.db.run(Repeatable, statement).await.map(drop)
    }

    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()> {
        storable_user(&new.user)?;
        storable_event(audit)?;
        may_hold(&new.user.roles, authority)?;
        let statement = people::create(new, audit).map_err(Failure::into_error)?;
        match self.db.first(Once, statement, |row| Ok(row.try_get(0)?)).await? {
            Some(true) => Ok(()),
            Some(false) | None => Err(ErrorKind::UserExists.into()),
        }
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        Ok(self
            .db
            .first(Repeatable, people::by_id(id), people::read)
            .await?
            .flatten())
    }

    async fn user_by_name(&self, name: &Username) -> Result<Option<User>> {
        Ok(self
            .db
            .first(Repeatable, people::by_name(name), people::read)
            .await?
            .flatten())
    }

    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>> {
        Ok(self
            .db
            .first(Repeatable, passwords::hash(id), passwords::read_hash)
            .await?
            .flatten())
    }

    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>> {
        storable("query", [prefix])?;
        let found = self
            .db
            .all(Repeatable, people::list(prefix, after, limit), people::read)
            .await?;
        Ok(Page::of(found.into_iter().flatten().collect(), limit, |user| {
            user.id.to_string()
        }))
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
            .with(Transaction, move |session| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move { people::update(session, id, &change, expected, authority, &audit).await })
            })
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
            .with(Transaction, move |session| {
                let audit = audit.clone();
                Box::pin(async move { people::set_disabled(session, id, disabled, authority, &audit).await })
            })
            .await
    }

    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        storable_event(audit)?;
        let audit = audit.clone();
        self.db
            .with(Transaction, move |session| {
                let audit = audit.clone();
                Box::pin(async move { people::delete(session, id, authority, &audit).await })
            })
            .await
    }

    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        storable_event(audit)?;
        let (new, audit) = (new.clone(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (new, audit) = (new.clone(), audit.clone());
                Box::pin(async move { passwords::set(session, &new, authority, &audit).await })
            })
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
            .with(Transaction, move |session| {
                let audit = audit.clone();
                Box::pin(
                    async move { passwords::begin_reset(session, id, token_hash, expires, authority, &audit).await },
                )
            })
            .await
    }

    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>> {
        let statement = passwords::reset_user(token_hash, now);
        Ok(self.db.first(Repeatable, statement, people::read).await?.flatten())
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
            .with(Transaction, move |session| {
                let (hash, audit) = (hash.clone(), audit.clone());
                Box::pin(async move { passwords::complete_reset(session, token_hash, &hash, &audit).await })
            })
            .await
    }
}
