//! Passwords, and the one-time tokens that reset them.

use super::columns::{Columns, one_column};
use super::statement::{Statement, sql};
use super::transaction::Transaction;
use super::users::{self, lock, lock_changeable, user_columns};
use crate::clock::UnixMillis;
use crate::model::{ErrorKind, Result, Revocation, SessionId, Target, User, UserId};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword};
use crate::store::change;

pub(super) fn hash(id: UserId) -> Statement {
    sql!(
        "SELECT ",
        user_columns!(),
        ", users.password_hash FROM users WHERE id = $1"
    )
    .bind(id)
}

pub(super) fn read_hash(columns: &mut Columns<'_>) -> Result<(User, SecretText)> {
    let user = users::read(columns)?;
    Ok((user, SecretText::new(columns.take::<String>()?)))
}

pub(super) async fn set(tx: &mut Transaction<'_>, new: NewPassword, authority: Authority) -> Result<Revocation> {
    let (user, now) = lock_changeable(tx, new.user, authority).await?;
    if let Some(verified) = &new.verified {
        let stored = tx.first(hash(new.user), read_hash).await?;
        let (_, stored) = stored.ok_or(ErrorKind::UserNotFound)?;
        if stored != *verified {
            return Err(ErrorKind::InvalidCredentials.into());
        }
    }
    write(tx, &user, &new.hash, new.keep, now).await
}

pub(super) async fn begin_reset(
    tx: &mut Transaction<'_>,
    id: UserId,
    token_hash: [u8; 32],
    expires: UnixMillis,
    authority: Authority,
) -> Result<()> {
    lock_changeable(tx, id, authority).await?;
    let note = sql!("UPDATE users SET reset_hash = $2, reset_expires = $3 WHERE id = $1")
        .bind(id)
        .bind(token_hash)
        .bind(expires);
    tx.run(note).await?;
    tx.audit().await
}

/// Voids an outstanding reset token.
pub(super) async fn void_reset(tx: &mut Transaction<'_>, id: UserId) -> Result<()> {
    let void = sql!("UPDATE users SET reset_hash = NULL, reset_expires = NULL WHERE id = $1");
    tx.run(void.bind(id)).await.map(drop)
}

pub(super) fn reset_user(token_hash: [u8; 32], now: UnixMillis) -> Statement {
    sql!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE reset_hash = $1 AND reset_expires > $2"
    )
    .bind(token_hash)
    .bind(now)
}

pub(super) async fn complete_reset(
    tx: &mut Transaction<'_>,
    token_hash: [u8; 32],
    hash: SecretText,
) -> Result<Revocation> {
    let holder = sql!("SELECT id FROM users WHERE reset_hash = $1").bind(token_hash);
    let holder = tx.first(holder, one_column).await?;
    let (_, now) = lock(tx, holder.ok_or(ErrorKind::ResetTokenInvalid)?).await?;
    // Asked again under the lock: of two calls that use the token at once, the second finds it gone.
    let user = tx.first(reset_user(token_hash, now), users::read).await?;
    let user = user.ok_or(ErrorKind::ResetTokenInvalid)?;
    write(tx, &user, &hash, None, now).await
}

/// Stores the hash, voids an outstanding reset token and revokes everything of the user except the session `keep`.
async fn write(
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
