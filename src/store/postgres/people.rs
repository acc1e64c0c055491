//! Transitions of users.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::Result;
use super::passwords;
use super::record::{audit_or_revoke, auditing, insert_audit, revoke_known};
use super::rows::{self, USER_COLUMNS, json, now, user_columns};
use super::statement::{Session, Statement, sql};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ErrorKind, Revocation, Target, User, UserId, Username};
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewUser, UserChange};
use crate::store::change;

pub(super) fn by_id(id: UserId) -> Statement {
    sql(concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1")).bind(id.0)
}

pub(super) fn by_name(name: &Username) -> Statement {
    sql(concat!("SELECT ", user_columns!(), " FROM users WHERE username = $1")).bind(name.as_str().to_owned())
}

pub(super) fn read(row: &PgRow) -> Result<Option<User>> {
    rows::user(row, 0)
}

/// The row of a user that the transaction changes, and the time on the server.
pub(super) async fn lock(session: &mut Session<'_>, id: UserId) -> Result<(User, UnixMillis)> {
    const LOCK: &str = concat!(
        "SELECT ",
        user_columns!(),
        ", ",
        now!(),
        " FROM users WHERE id = $1 FOR UPDATE"
    );
    let found = session.first(sql(LOCK).bind(id.0), |row| {
        let now = UnixMillis(row.try_get(USER_COLUMNS)?);
        Ok(rows::user(row, 0)?.map(|user| (user, now)))
    });
    Ok(found.await?.flatten().ok_or(ErrorKind::UserNotFound)?)
}

/// [`lock`], of a user whom `authority` suffices to change.
pub(super) async fn changeable(
    session: &mut Session<'_>,
    id: UserId,
    authority: Authority,
) -> Result<(User, UnixMillis)> {
    let (user, now) = lock(session, id).await?;
    change::may_change(&user, authority)?;
    Ok((user, now))
}

/// Answers whether the name (and the id) was free.
pub(super) fn create(new: &NewUser, event: &AuditEvent) -> Result<Statement> {
    const CREATE: &str = concat!(
        "WITH made AS (
             INSERT INTO users (id, username, email, display_name, roles, attributes, password_hash, disabled, created,
                                updated, password_changed, last_login, epoch)
             SELECT $12, $13, $14, $15, $16, $17::json, $18, $19, $20, $21, $22, $23,
                    (SELECT coalesce(max(epoch), 0) FROM revocations
                     WHERE level = 'user' AND id = $12::text AND epoch > 0)
             ON CONFLICT DO NOTHING RETURNING 1
         ), audited AS (",
        insert_audit!("FROM made"),
        ") SELECT EXISTS (SELECT FROM made)"
    );
    let user = &new.user;
    Ok(auditing(CREATE, event)?
        .bind(user.id.0)
        .bind(user.username.as_str().to_owned())
        .bind(user.email.clone())
        .bind(user.display_name.clone())
        .bind(user.roles.clone())
        .bind(json(&user.attributes)?)
        .bind(new.password_hash.expose().to_owned())
        .bind(user.disabled)
        .bind(user.created.0)
        .bind(user.updated.0)
        .bind(user.password_changed.0)
        .bind(user.last_login.map(|at| at.0)))
}

pub(super) fn list(prefix: &str, after: Option<UserId>, limit: u32) -> Statement {
    const BY_PREFIX: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE id > $1 AND (username >= $3 AND username < $4 OR lower(email) >= $3 AND lower(email) < $4)
         ORDER BY id LIMIT $2"
    );
    const ALL: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE id > $1 ORDER BY id LIMIT $2"
    );
    let after = after.map_or(uuid::Uuid::nil(), |id| id.0);
    // One more than asked for tells whether there is a next page.
    let limit_and_one = i64::from(limit) + 1;
    if prefix.is_empty() {
        return sql(ALL).bind(after).bind(limit_and_one);
    }
    // Whatever starts with the prefix sorts before the prefix and the last character that there is.
    let end = format!("{prefix}{}", char::MAX);
    sql(BY_PREFIX)
        .planned_afresh()
        .bind(after)
        .bind(limit_and_one)
        .bind(prefix.to_owned())
        .bind(end)
}

pub(super) async fn update(
    session: &mut Session<'_>,
    id: UserId,
    wanted: &UserChange,
    expected: Option<UnixMillis>,
    authority: Authority,
    event: &AuditEvent,
) -> Result<(User, Option<Revocation>)> {
    let (user, now) = lock(session, id).await?;
    let changed = change::user(user, wanted, expected, authority, now)?;
    store(session, &changed.row).await?;
    if changed.promoted {
        passwords::void_reset(session, id).await?;
    }
    let revocation = audit_or_revoke(session, changed.lost, &everything_of(id), event).await?;
    Ok((changed.row, revocation))
}

pub(super) async fn set_disabled(
    session: &mut Session<'_>,
    id: UserId,
    disabled: bool,
    authority: Authority,
    event: &AuditEvent,
) -> Result<(User, Option<Revocation>)> {
    let (mut user, now) = changeable(session, id, authority).await?;
    user.disabled = disabled;
    user.updated = change::later(user.updated, now);
    store(session, &user).await?;
    let revocation = audit_or_revoke(session, disabled, &everything_of(id), event).await?;
    Ok((user, revocation))
}

pub(super) async fn delete(
    session: &mut Session<'_>,
    id: UserId,
    authority: Authority,
    event: &AuditEvent,
) -> Result<Revocation> {
    changeable(session, id, authority).await?;
    let revocation = revoke_known(session, &everything_of(id), event).await?;
    session.run(sql("DELETE FROM users WHERE id = $1").bind(id.0)).await?;
    Ok(revocation)
}

pub(super) fn logged_in(
    id: UserId,
    at: UnixMillis,
    rehash: Option<(SecretText, SecretText)>,
    event: &AuditEvent,
) -> Result<Statement> {
    const NOTE: &str = concat!(
        "WITH noted AS (
             UPDATE users SET last_login = greatest(last_login, $13),
                              password_hash = CASE WHEN password_hash = $14 THEN $15 ELSE password_hash END
             WHERE id = $12
         ) ",
        insert_audit!("")
    );
    let (verified, new) = rehash.unzip();
    Ok(auditing(NOTE, event)?
        .bind(id.0)
        .bind(at.0)
        .bind(verified.map(|hash| hash.expose().to_owned()))
        .bind(new.map(|hash| hash.expose().to_owned())))
}

const fn everything_of(id: UserId) -> Target {
    Target::User { id, keep: None }
}

async fn store(session: &mut Session<'_>, user: &User) -> Result<()> {
    const STORE: &str = "UPDATE users SET username = $2, email = $3, display_name = $4, roles = $5,
                                          attributes = $6::json, disabled = $7, updated = $8
                         WHERE id = $1";
    let statement = sql(STORE)
        .bind(user.id.0)
        .bind(user.username.as_str().to_owned())
        .bind(user.email.clone())
        .bind(user.display_name.clone())
        .bind(user.roles.clone())
        .bind(json(&user.attributes)?)
        .bind(user.disabled)
        .bind(user.updated.0);
    match session.run(statement).await {
        Err(failure) if failure.is_duplicate() => Err(ErrorKind::UserExists.into()),
        done => done.map(drop),
    }
}
