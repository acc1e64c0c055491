//! Transitions of users.

use rusqlite::params;

use super::Tx;
use super::error::unless_duplicate;
use super::passwords;
use super::record::{audit, revoke_known};
use super::rows::{self, json, user_columns};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ErrorKind, Result, Revocation, Target, User, UserId, Username};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewUser, UserChange};
use crate::store::{Page, change};

pub(super) fn by_id(tx: &Tx<'_>, id: UserId) -> Result<Option<User>> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE id = ?1");
    Ok(tx.first(sql, [id.to_string()], |row| rows::user(row, 0))?.flatten())
}

pub(super) fn by_name(tx: &Tx<'_>, name: &Username) -> Result<Option<User>> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE username = ?1");
    Ok(tx.first(sql, [name.as_str()], |row| rows::user(row, 0))?.flatten())
}

/// The user, whom `authority` suffices to change.
pub(super) fn changeable(tx: &Tx<'_>, id: UserId, authority: Authority) -> Result<User> {
    let user = by_id(tx, id)?.ok_or(ErrorKind::UserNotFound)?;
    change::may_change(&user, authority)?;
    Ok(user)
}

pub(super) fn create(tx: &Tx<'_>, new: &NewUser, authority: Authority, event: &AuditEvent) -> Result<()> {
    let user = &new.user;
    change::may_hold(&user.roles, authority)?;
    let inserted = tx.run(
        "INSERT INTO users (id, username, email, display_name, roles, attributes, password_hash, disabled, epoch,
                            created, updated, password_changed, last_login)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
                 (SELECT coalesce(max(epoch), 0) FROM revocations WHERE level = 'user' AND id = ?1 AND epoch > 0),
                 ?9, ?10, ?11, ?12)",
        params![
            user.id.to_string(),
            user.username.as_str(),
            user.email,
            user.display_name,
            json(&user.roles)?,
            json(&user.attributes)?,
            new.password_hash.expose(),
            user.disabled,
            user.created.0,
            user.updated.0,
            user.password_changed.0,
            user.last_login.map(|at| at.0),
        ],
    );
    unless_duplicate(inserted, ErrorKind::UserExists)?;
    audit(tx, event)
}

pub(super) fn list(tx: &Tx<'_>, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>> {
    const BY_PREFIX: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE +users.id > ?1 AND (username >= ?3 AND username < ?4 OR lower(email) >= ?3 AND lower(email) < ?4)
         ORDER BY id LIMIT ?2"
    );
    const ALL: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE id > ?1 ORDER BY id LIMIT ?2"
    );
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    // One more than asked for tells whether there is a next page.
    let limit_and_one = i64::from(limit) + 1;
    let read = |row: &rusqlite::Row<'_>| rows::user(row, 0);
    let found = if prefix.is_empty() {
        tx.all(ALL, params![after, limit_and_one], read)?
    } else {
        // Whatever starts with the prefix sorts before the prefix and the last character that there is.
        let end = format!("{prefix}{}", char::MAX);
        tx.all(BY_PREFIX, params![after, limit_and_one, prefix, end], read)?
    };
    Ok(Page::of(found.into_iter().flatten().collect(), limit, |user| {
        user.id.to_string()
    }))
}

pub(super) fn update(
    tx: &Tx<'_>,
    id: UserId,
    wanted: &UserChange,
    expected: Option<UnixMillis>,
    authority: Authority,
    event: &AuditEvent,
) -> Result<(User, Option<Revocation>)> {
    let user = by_id(tx, id)?.ok_or(ErrorKind::UserNotFound)?;
    let changed = change::user(user, wanted, expected, authority, tx.now())?;
    store(tx, &changed.row)?;
    if changed.promoted {
        passwords::void_reset(tx, id)?;
    }
    let revocation = changed.lost.then(|| revoke_known(tx, &everything_of(id))).transpose()?;
    audit(tx, event)?;
    Ok((changed.row, revocation))
}

pub(super) fn set_disabled(
    tx: &Tx<'_>,
    id: UserId,
    disabled: bool,
    authority: Authority,
    event: &AuditEvent,
) -> Result<(User, Option<Revocation>)> {
    let mut user = changeable(tx, id, authority)?;
    user.disabled = disabled;
    user.updated = change::later(user.updated, tx.now());
    store(tx, &user)?;
    let revocation = disabled.then(|| revoke_known(tx, &everything_of(id))).transpose()?;
    audit(tx, event)?;
    Ok((user, revocation))
}

pub(super) fn delete(tx: &Tx<'_>, id: UserId, authority: Authority, event: &AuditEvent) -> Result<Revocation> {
    changeable(tx, id, authority)?;
    let revocation = revoke_known(tx, &everything_of(id))?;
    tx.run("DELETE FROM users WHERE id = ?1", [id.to_string()])?;
    audit(tx, event)?;
    Ok(revocation)
}

pub(super) fn logged_in(
    tx: &Tx<'_>,
    id: UserId,
    at: UnixMillis,
    rehash: Option<&(SecretText, SecretText)>,
    event: &AuditEvent,
) -> Result<()> {
    tx.run(
        "UPDATE users SET last_login = max(coalesce(last_login, ?2), ?2) WHERE id = ?1",
        params![id.to_string(), at.0],
    )?;
    if let Some((verified, new)) = rehash {
        tx.run(
            "UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2",
            params![id.to_string(), verified.expose(), new.expose()],
        )?;
    }
    audit(tx, event)
}

const fn everything_of(id: UserId) -> Target {
    Target::User { id, keep: None }
}

fn store(tx: &Tx<'_>, user: &User) -> Result<()> {
    let updated = tx.run(
        "UPDATE users SET username = ?2, email = ?3, display_name = ?4, roles = ?5, attributes = ?6, disabled = ?7,
                          updated = ?8
         WHERE id = ?1",
        params![
            user.id.to_string(),
            user.username.as_str(),
            user.email,
            user.display_name,
            json(&user.roles)?,
            json(&user.attributes)?,
            user.disabled,
            user.updated.0,
        ],
    );
    unless_duplicate(updated, ErrorKind::UserExists)
}
