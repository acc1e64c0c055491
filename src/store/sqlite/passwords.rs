//! Transitions of passwords and of the one-time tokens that reset them.

use rusqlite::params;

use super::Tx;
use super::people::changeable;
use super::record::{audit, revoke_known};
use super::rows::{self, USER_COLUMNS, user_columns};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ErrorKind, Result, Revocation, SessionId, Target, User, UserId};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewPassword};
use crate::store::change;

pub(super) fn hash(tx: &Tx<'_>, id: UserId) -> Result<Option<(User, SecretText)>> {
    let sql = concat!(
        "SELECT ",
        user_columns!(),
        ", users.password_hash FROM users WHERE id = ?1"
    );
    let found = tx.first(sql, [id.to_string()], |row| {
        let hash: String = row.get(USER_COLUMNS)?;
        Ok(rows::user(row, 0)?.map(|user| (user, SecretText::new(hash))))
    })?;
    Ok(found.flatten())
}

pub(super) fn set(tx: &Tx<'_>, new: &NewPassword, authority: Authority, event: &AuditEvent) -> Result<Revocation> {
    let user = changeable(tx, new.user, authority)?;
    if let Some(verified) = &new.verified {
        let (_, stored) = hash(tx, new.user)?.ok_or(ErrorKind::UserNotFound)?;
        if stored != *verified {
            return Err(ErrorKind::InvalidCredentials.into());
        }
    }
    write(tx, &user, &new.hash, new.keep, event)
}

pub(super) fn begin_reset(
    tx: &Tx<'_>,
    id: UserId,
    token_hash: &[u8; 32],
    expires: UnixMillis,
    authority: Authority,
    event: &AuditEvent,
) -> Result<()> {
    changeable(tx, id, authority)?;
    tx.run(
        "UPDATE users SET reset_hash = ?2, reset_expires = ?3 WHERE id = ?1",
        params![id.to_string(), token_hash, expires.0],
    )?;
    audit(tx, event)
}

/// Voids an outstanding token.
pub(super) fn void_reset(tx: &Tx<'_>, id: UserId) -> Result<()> {
    tx.run(
        "UPDATE users SET reset_hash = NULL, reset_expires = NULL WHERE id = ?1",
        [id.to_string()],
    )?;
    Ok(())
}

pub(super) fn reset_user(tx: &Tx<'_>, token_hash: &[u8; 32], now: UnixMillis) -> Result<Option<User>> {
    let sql = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE reset_hash = ?1 AND reset_expires > ?2"
    );
    Ok(tx
        .first(sql, params![token_hash, now.0], |row| rows::user(row, 0))?
        .flatten())
}

pub(super) fn complete_reset(
    tx: &Tx<'_>,
    token_hash: &[u8; 32],
    hash: &SecretText,
    event: &AuditEvent,
) -> Result<Revocation> {
    let user = reset_user(tx, token_hash, tx.now())?.ok_or(ErrorKind::ResetTokenInvalid)?;
    write(tx, &user, hash, None, event)
}

fn write(
    tx: &Tx<'_>,
    user: &User,
    hash: &SecretText,
    keep: Option<SessionId>,
    event: &AuditEvent,
) -> Result<Revocation> {
    tx.run(
        "UPDATE users SET password_hash = ?2, password_changed = ?3, updated = ?4, reset_hash = NULL,
                          reset_expires = NULL
         WHERE id = ?1",
        params![
            user.id.to_string(),
            hash.expose(),
            tx.now().0,
            change::later(user.updated, tx.now()).0
        ],
    )?;
    let revocation = revoke_known(tx, &Target::User { id: user.id, keep })?;
    audit(tx, event)?;
    Ok(revocation)
}
