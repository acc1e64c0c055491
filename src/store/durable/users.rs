//! Users: their columns and their transitions, with those of passwords and of the one-time tokens that reset them.

use async_trait::async_trait;

use super::columns::{Columns, one_column};
use super::statement::{Statement, json, sql, sql_with_event};
use super::transaction::Transaction;
use super::{Backend, PoolKind, audit, logins, refresh_view};
use crate::clock::UnixMillis;
use crate::model::{
    AuditEvent, ClientId, Epochs, ErrorKind, Result, Revocation, SessionId, Target, User, UserId, Username,
};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword, NewUser, UserChange};
use crate::store::change::{self, check_filter, may_hold};
use crate::store::{Login, Page, RefreshView, UserStore};

/// The columns that [`read`] reads.
macro_rules! user_columns {
    () => {
        "users.id, users.username, users.email, users.display_name, users.roles, CAST(users.attributes AS text), \
         users.disabled, users.created, users.updated, users.password_changed, users.last_login"
    };
}
pub(super) use user_columns;

/// How many columns [`read`] reads.
pub(super) const USER_COLUMNS: usize = 11;

pub(super) fn read(columns: &mut Columns<'_>) -> Result<User> {
    Ok(User {
        id: columns.take()?,
        username: columns.take()?,
        email: columns.take()?,
        display_name: columns.take()?,
        roles: columns.take()?,
        attributes: columns.json()?,
        disabled: columns.take()?,
        created: columns.take()?,
        updated: columns.take()?,
        password_changed: columns.take()?,
        last_login: columns.maybe()?,
    })
}

#[async_trait]
impl<B: Backend> UserStore for B {
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login> {
        // A login ends with a write. Where that would fail, no password is hashed and no session stored.
        self.check_writable()?;
        self.only(logins::login(name, client), logins::read_login).await
    }

    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView> {
        refresh_view::refresh_view(self, user, client, session, epochs).await
    }

    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()> {
        let statement = logins::logged_in(user, at, rehash.as_ref(), audit)?;
        self.run_audited(statement, audit).await.map(drop)
    }

    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()> {
        may_hold(&new.user.roles, authority)?;
        if !self.run_audited(create(new, audit)?, audit).await? {
            return Err(ErrorKind::UserExists.into());
        }
        Ok(())
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        let by_id = sql!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        self.first(by_id.bind(id), read).await
    }

    async fn user_by_name(&self, name: &Username) -> Result<Option<User>> {
        let by_name = sql!("SELECT ", user_columns!(), " FROM users WHERE username = $1");
        self.first(by_name.bind(name), read).await
    }

    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>> {
        let by_id = sql!(
            "SELECT ",
            user_columns!(),
            ", users.password_hash FROM users WHERE id = $1"
        );
        self.first(by_id.bind(id), |columns| Ok((read(columns)?, read_hash(columns)?)))
            .await
    }

    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>> {
        check_filter("query", prefix)?;
        let found = self.query(PoolKind::Callers, list(prefix, after, limit), read).await?;
        Ok(Page::of(found, limit, |user| user.id.to_string()))
    }

    async fn update_user(
        &self,
        id: UserId,
        change: &UserChange,
        expected: Option<UnixMillis>,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)> {
        let arguments = (id, change.clone(), expected, authority);
        self.transition(audit, arguments, |tx, &(id, ref change, expected, authority)| {
            Box::pin(async move {
                let (user, _, now) = lock(tx, id).await?;
                let changed = change::user(user, change, expected, authority, now)?;
                store(tx, &changed.row).await?;
                if changed.promoted {
                    let void = sql!("UPDATE users SET reset_hash = NULL, reset_expires = NULL WHERE id = $1");
                    tx.run(void.bind(id)).await?;
                }
                let everything = Target::User { id, keep: None };
                let revocation = tx.audit_or_revoke(changed.lost, everything).await?;
                Ok((changed.row, revocation))
            })
        })
        .await
    }

    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        self.transition(audit, (id, authority), |tx, &(id, authority)| {
            Box::pin(async move {
                lock_changeable(tx, id, authority).await?;
                let revocation = tx.revoke(Target::User { id, keep: None }).await?;
                tx.run(sql!("DELETE FROM users WHERE id = $1").bind(id)).await?;
                Ok(revocation)
            })
        })
        .await
    }

    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        self.transition(audit, (new.clone(), authority), |tx, (new, authority)| {
            Box::pin(async move {
                let (user, stored, now) = lock_changeable(tx, new.user, *authority).await?;
                if new.verified.as_ref().is_some_and(|verified| *verified != stored) {
                    return Err(ErrorKind::InvalidCredentials.into());
                }
                store_password(tx, &user, &new.hash, new.keep, now).await
            })
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
        let arguments = (id, token_hash, expires, authority);
        self.transition(audit, arguments, |tx, &(id, token_hash, expires, authority)| {
            Box::pin(async move {
                lock_changeable(tx, id, authority).await?;
                let note = sql!("UPDATE users SET reset_hash = $2, reset_expires = $3 WHERE id = $1");
                tx.run(note.bind(id).bind(token_hash).bind(expires)).await?;
                tx.audit().await
            })
        })
        .await
    }

    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>> {
        self.first(reset_user(token_hash, now), read).await
    }

    async fn complete_password_reset(
        &self,
        token_hash: [u8; 32],
        hash: &SecretText,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        self.transition(audit, (token_hash, hash.clone()), |tx, (token_hash, hash)| {
            Box::pin(async move {
                let holder = sql!("SELECT id FROM users WHERE reset_hash = $1").bind(*token_hash);
                let holder = tx.first(holder, one_column).await?;
                let (_, _, now) = lock(tx, holder.ok_or(ErrorKind::ResetTokenInvalid)?).await?;
                // Asked again under the lock: of two calls that use the token at once, the second finds it gone.
                let user = tx.first(reset_user(*token_hash, now), read).await?;
                store_password(tx, &user.ok_or(ErrorKind::ResetTokenInvalid)?, hash, None, now).await
            })
        })
        .await
    }
}

/// Changes no row if the name or the id is taken.
fn create(new: &NewUser, event: &AuditEvent) -> Result<Statement> {
    let create = sql_with_event!(
        IfChanged,
        "INSERT INTO users (id, username, email, display_name, roles, attributes, password_hash, disabled, created,
                            updated, password_changed, last_login, epoch)
         VALUES ($12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
                 (SELECT coalesce(max(epoch), 0) FROM revocations
                  WHERE level = 'user' AND id = CAST($12 AS text) AND epoch > 0))
         ON CONFLICT DO NOTHING"
    );
    let user = &new.user;
    Ok(audit::bind_event(create, event)?
        .bind(user.id)
        .bind(&user.username)
        .bind(&user.email)
        .bind(&user.display_name)
        .bind(&user.roles)
        .bind(json(&user.attributes)?)
        .bind(new.password_hash.expose())
        .bind(user.disabled)
        .bind(user.created)
        .bind(user.updated)
        .bind(user.password_changed)
        .bind(user.last_login))
}

fn list(prefix: &str, after: Option<UserId>, limit: u32) -> Statement {
    let (after, limit_and_one) = (after.unwrap_or(UserId(uuid::Uuid::nil())), i64::from(limit) + 1);
    if prefix.is_empty() {
        return sql!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE id > $1 ORDER BY id LIMIT $2"
        )
        .bind(after)
        .bind(limit_and_one);
    }
    // Every text that starts with the prefix sorts before the prefix followed by the last character of Unicode.
    let end = format!("{prefix}{}", char::MAX);
    sql!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE ",
        without_index,
        "users.id > $1
         AND (username >= $3 AND username < $4 OR lower(email) >= $3 AND lower(email) < $4)
         ORDER BY id LIMIT $2"
    )
    .planned_afresh()
    .bind(after)
    .bind(limit_and_one)
    .bind(prefix)
    .bind(end)
}

fn reset_user(token_hash: [u8; 32], now: UnixMillis) -> Statement {
    sql!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE reset_hash = $1 AND reset_expires > $2"
    )
    .bind(token_hash)
    .bind(now)
}

fn read_hash(columns: &mut Columns<'_>) -> Result<SecretText> {
    Ok(SecretText::new(columns.take::<String>()?))
}

/// Locks the row of a user and returns it with the stored password hash and the database's time.
async fn lock(tx: &mut Transaction<'_>, id: UserId) -> Result<(User, SecretText, UnixMillis)> {
    let lock = sql!(
        "SELECT ",
        user_columns!(),
        ", users.password_hash, ",
        now,
        " FROM users WHERE id = $1",
        for_update
    );
    let found = tx.first(lock.bind(id), |columns| {
        Ok((read(columns)?, read_hash(columns)?, columns.take()?))
    });
    Ok(found.await?.ok_or(ErrorKind::UserNotFound)?)
}

/// Like [`lock`], for a user that `authority` suffices to change.
async fn lock_changeable(
    tx: &mut Transaction<'_>,
    id: UserId,
    authority: Authority,
) -> Result<(User, SecretText, UnixMillis)> {
    let locked = lock(tx, id).await?;
    may_hold(&locked.0.roles, authority)?;
    Ok(locked)
}

async fn store(tx: &mut Transaction<'_>, user: &User) -> Result<()> {
    let store = sql!(
        "UPDATE users SET username = $2, email = $3, display_name = $4, roles = $5, attributes = $6, disabled = $7,
                          updated = $8
         WHERE id = $1"
    )
    .if_taken(ErrorKind::UserExists)
    .bind(user.id)
    .bind(&user.username)
    .bind(&user.email)
    .bind(&user.display_name)
    .bind(&user.roles)
    .bind(json(&user.attributes)?)
    .bind(user.disabled)
    .bind(user.updated);
    tx.run(store).await.map(drop)
}

/// Stores the hash, voids an outstanding reset token and revokes everything of the user except the session `keep`.
async fn store_password(
    tx: &mut Transaction<'_>,
    user: &User,
    hash: &SecretText,
    keep: Option<SessionId>,
    now: UnixMillis,
) -> Result<Revocation> {
    let set = sql!(
        "UPDATE users SET password_hash = $2, password_changed = $3, updated = $4, reset_hash = NULL,
                          reset_expires = NULL
         WHERE id = $1"
    )
    .bind(user.id)
    .bind(hash.expose())
    .bind(now)
    .bind(change::later(user.updated, now));
    tx.run(set).await?;
    tx.revoke(Target::User { id: user.id, keep }).await
}
