//! The rules of changes to users, clients and keys: the resulting row, and the rights that the caller needs. The
//! functions are pure; a transition calls them on rows that it has locked.

use super::accounts::{Authority, UserChange};
use super::keys::{KeyRows, SigningRow};
use crate::clock::UnixMillis;
use crate::model::scope::CALLER_SCOPE_PREFIX;
use crate::model::user::ADMIN;
use crate::model::{Client, ClientChange, Error, ErrorKind, KeyId, KeyState, Result, User};

/// The result of a change.
#[derive(Debug)]
pub(super) struct Changed<T> {
    /// The row to be written.
    pub(super) row: T,
    /// Whether rights were taken away that existing tokens carry. The epoch must then be raised.
    pub(super) lost: bool,
    /// Whether the role `admin` was given. A token for a password reset must then be voided, because a caller with
    /// fewer rights may have created it.
    pub(super) promoted: bool,
}

/// Checks that `authority` suffices to give these roles, or to change a user that has them.
pub(super) fn may_hold(roles: &[String], authority: Authority) -> Result<()> {
    if authority == Authority::Ordinary && roles.iter().any(|role| role == ADMIN) {
        return Err(ErrorKind::CallerNotAllowed.into());
    }
    Ok(())
}

/// Applies a change to a user.
pub(super) fn user(
    mut user: User,
    change: &UserChange,
    expected: Option<UnixMillis>,
    authority: Authority,
    now: UnixMillis,
) -> Result<Changed<User>> {
    may_hold(&user.roles, authority)?;
    fresh(expected, user.updated)?;
    let was_admin = user.is_admin();
    set(&mut user.username, change.username.as_ref());
    set(&mut user.email, change.email.as_ref());
    set(&mut user.display_name, change.display_name.as_ref());
    set(&mut user.roles, change.roles.as_ref());
    set(&mut user.attributes, change.attributes.as_ref());
    set(&mut user.disabled, change.disabled.as_ref());
    may_hold(&user.roles, authority)?;
    user.updated = later(user.updated, now);
    Ok(Changed {
        lost: was_admin && !user.is_admin() || change.disabled == Some(true),
        promoted: !was_admin && user.is_admin(),
        row: user,
    })
}

/// Applies a change to a client.
pub(super) fn client(
    mut client: Client,
    change: &ClientChange,
    expected: Option<UnixMillis>,
    callable: Option<&[String]>,
    now: UnixMillis,
) -> Result<Changed<Client>> {
    may_call(&client, callable)?;
    fresh(expected, client.updated)?;
    let before: Vec<String> = client.caller_scopes().map(str::to_owned).collect();
    set(&mut client.display_name, change.display_name.as_ref());
    set(&mut client.grants, change.grants.as_ref());
    set(&mut client.audiences, change.audiences.as_ref());
    set(&mut client.scopes, change.scopes.as_ref());
    set(&mut client.access_token_ttl, change.access_token_ttl.as_ref());
    set(&mut client.refresh_idle_ttl, change.refresh_idle_ttl.as_ref());
    set(&mut client.session_ttl, change.session_ttl.as_ref());
    set(&mut client.refresh_grace, change.refresh_grace.as_ref());
    set(&mut client.reuse_policy, change.reuse_policy.as_ref());
    set(&mut client.max_sessions_per_user, change.max_sessions_per_user.as_ref());
    set(&mut client.disabled, change.disabled.as_ref());
    may_call(&client, callable)?;
    client.updated = later(client.updated, now);
    let lost_scope = before.iter().any(|scope| !client.scopes.contains(scope));
    Ok(Changed {
        lost: lost_scope || change.disabled == Some(true),
        promoted: false,
        row: client,
    })
}

/// Checks that a caller with these `countersign:*` scopes may change this client; none for the operator on the store
/// itself.
pub(super) fn may_call(client: &Client, callable: Option<&[String]>) -> Result<()> {
    let Some(callable) = callable else { return Ok(()) };
    if client
        .caller_scopes()
        .all(|scope| callable.iter().any(|held| held == scope))
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::CallerNotAllowed,
        format!("the client has a `{CALLER_SCOPE_PREFIX}*` scope that the caller lacks"),
    ))
}

/// Whether the key `id` is PENDING and `active` is the key that signs now (none if no key signs).
pub(super) fn may_activate(signing: &[SigningRow], id: &KeyId, active: Option<&KeyId>) -> bool {
    let signs = signing
        .iter()
        .find(|key| key.state == KeyState::Active)
        .map(|key| &key.id);
    signs == active && is(signing, id, KeyState::Pending)
}

/// The key that signs after `key` is revoked; none if `key` does not sign now. `LAST_ACTIVE_KEY` if it does, and
/// `standby` is not PENDING.
pub(super) fn successor<'s>(
    signing: &[SigningRow],
    key: &SigningRow,
    standby: Option<&'s KeyId>,
) -> Result<Option<&'s KeyId>> {
    if key.state != KeyState::Active {
        return Ok(None);
    }
    match standby.filter(|standby| is(signing, standby, KeyState::Pending)) {
        Some(standby) => Ok(Some(standby)),
        None => Err(ErrorKind::LastActiveKey.into()),
    }
}

fn is(signing: &[SigningRow], id: &KeyId, state: KeyState) -> bool {
    signing.iter().any(|key| key.id == *id && key.state == state)
}

/// The proposed rows of each kind of which no row is stored.
pub(super) fn lacking(stored: &KeyRows, proposed: &KeyRows) -> KeyRows {
    let mut lacking = proposed.clone();
    if !stored.signing.is_empty() {
        lacking.signing.clear();
    }
    lacking
        .secrets
        .retain(|new| !stored.secrets.iter().any(|old| old.purpose == new.purpose));
    lacking
        .checks
        .retain(|new| !stored.checks.iter().any(|old| old.name == new.name));
    lacking
}

/// The time of a change. It is later than that of the change before, because the optimistic lock compares the times.
pub(super) fn later(before: UnixMillis, now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.max(before.0.saturating_add(1)))
}

fn fresh(expected: Option<UnixMillis>, updated: UnixMillis) -> Result<()> {
    if expected.is_none_or(|expected| expected == updated) {
        return Ok(());
    }
    Err(ErrorKind::StaleUpdate.into())
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        value.clone_into(field);
    }
}

/// Refuses a filter with a NUL, by the name of its field. [`Statement::check_storable`](super::durable::Statement) does
/// the same for every argument, without the name.
pub(super) fn check_filter(field: &'static str, filter: &str) -> Result<()> {
    if filter.contains('\0') {
        return Err(Error::invalid(field, "must not hold NUL"));
    }
    Ok(())
}
