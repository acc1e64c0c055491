//! Transitions of passwords and of the one-time tokens that reset them.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::Result;
use super::people::{changeable, lock};
use super::record::{audit, revoke_known};
use super::rows::{self, USER_COLUMNS, user_columns};
use super::statement::{Session, Statement, sql};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ErrorKind, Revocation, SessionId, Target, User, UserId};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword};
use crate::store::change;

pub(super) fn hash(id: UserId) -> Statement {
    sql(concat!(
        "SELECT ",
        user_columns!(),
        ", users.password_hash FROM users WHERE id = $1"
    ))
    .bind(id.0)
}

pub(super) fn read_hash(row: &PgRow) -> Result<Option<(User, SecretText)>> {
    let hash: String = row.try_get(USER_COLUMNS)?;
    Ok(rows::user(row, 0)?.map(|user| (user, SecretText::new(hash))))
}

pub(super) async fn set(
    session: &mut Session<'_>,
    new: &NewPassword,
    authority: Authority,
    event: &AuditEvent,
) -> Result<Revocation> {
    let (user, now) = changeable(session, new.user, authority).await?;
    if let Some(verified) = &new.verified {
        let stored = session.first(hash(new.user), read_hash).await?.flatten();
        let (_, stored) = stored.ok_or(ErrorKind::UserNotFound)?;
        if stored != *verified {
            return Err(ErrorKind::InvalidCredentials.into());
        }
    }
    write(session, &user, &new.hash, new.keep, now, event).await
}

pub(super) async fn begin_reset(
    session: &mut Session<'_>,
    id: UserId,
    token_hash: [u8; 32],
    expires: UnixMillis,
    authority: Authority,
    event: &AuditEvent,
) -> Result<()> {
    changeable(session, id, authority).await?;
    let note = sql("UPDATE users SET reset_hash = $2, reset_expires = $3 WHERE id = $1")
        .bind(id.0)
        .bind(token_hash.to_vec())
        .bind(expires.0);
    session.run(note).await?;
    audit(session, event).await
}

/// Voids an outstanding token.
pub(super) async fn void_reset(session: &mut Session<'_>, id: UserId) -> Result<()> {
    let void = sql("UPDATE users SET reset_hash = NULL, reset_expires = NULL WHERE id = $1").bind(id.0);
    session.run(void).await.map(drop)
}

pub(super) fn reset_user(token_hash: [u8; 32], now: UnixMillis) -> Statement {
    sql(concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE reset_hash = $1 AND reset_expires > $2"
    ))
    .bind(token_hash.to_vec())
    .bind(now.0)
}

pub(super) async fn complete_reset(
    session: &mut Session<'_>,
    token_hash: [u8; 32],
    hash: &SecretText,
    event: &AuditEvent,
) -> Result<Revocation> {
    let holder = sql("SELECT id FROM users WHERE reset_hash = $1").bind(token_hash.to_vec());
    let holder = session.first(holder, |row| Ok(UserId(row.try_get(0)?))).await?;
    let (_, now) = lock(session, holder.ok_or(ErrorKind::ResetTokenInvalid)?).await?;
    // Asked again under the lock: of two who use the token at once, the second finds it gone.
    let user = session
        .first(reset_user(token_hash, now), |row| rows::user(row, 0))
        .await?;
    let user = user.flatten().ok_or(ErrorKind::ResetTokenInvalid)?;
    write(session, &user, hash, None, now, event).await
}

async fn write(
    session: &mut Session<'_>,
    user: &User,
    hash: &SecretText,
    keep: Option<SessionId>,
    now: UnixMillis,
    event: &AuditEvent,
) -> Result<Revocation> {
    let set = sql(
        "UPDATE users SET password_hash = $2, password_changed = $3, updated = $4, reset_hash = NULL,
                                    reset_expires = NULL
                   WHERE id = $1",
    )
    .bind(user.id.0)
    .bind(hash.expose().to_owned())
    .bind(now.0)
    .bind(change::later(user.updated, now).0);
    session.run(set).await?;
    revoke_known(session, &Target::User { id: user.id, keep }, event).await
}
