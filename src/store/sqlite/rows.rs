//! How rows are written and read back.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::FromSql;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{UnixMillis, millis};
use crate::model::{Client, Error, Grant, Level, Result, ReusePolicy, Revocation, Target, User, Username};

/// The columns that [`user`] reads.
macro_rules! user_columns {
    () => {
        "users.id, users.username, users.email, users.display_name, users.roles, users.attributes, users.disabled, \
         users.created, users.updated, users.password_changed, users.last_login"
    };
}
pub(super) use user_columns;

/// How many columns [`user`] reads.
pub(super) const USER_COLUMNS: usize = 11;

/// The columns that [`client`] reads.
macro_rules! client_columns {
    () => {
        "clients.id, clients.display_name, clients.grants, clients.audiences, clients.scopes, \
         clients.access_token_ttl, clients.refresh_idle_ttl, clients.session_ttl, clients.refresh_grace, \
         clients.reuse_policy, clients.max_sessions_per_user, clients.disabled, clients.created, clients.updated"
    };
}
pub(super) use client_columns;

/// The columns that [`revocation`] reads.
macro_rules! revocation_columns {
    () => {
        "level, id, keep, epoch, expires, revoked"
    };
}
pub(super) use revocation_columns;

/// Reads columns one after the other.
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Columns<'r, 's> {
    pub(super) const fn new(row: &'r Row<'s>, first: usize) -> Self {
        Self { row, next: first }
    }

    /// As it is.
    pub(super) fn take<T: FromSql>(&mut self) -> Result<T> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    pub(super) fn time(&mut self) -> Result<UnixMillis> {
        Ok(UnixMillis(self.take()?))
    }

    pub(super) fn maybe_time(&mut self) -> Result<Option<UnixMillis>> {
        Ok(self.take::<Option<i64>>()?.map(UnixMillis))
    }

    /// What has a text form.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T> {
        self.take::<String>()?.parse().map_err(unreadable)
    }

    pub(super) fn maybe_parsed<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>> {
        let text: Option<String> = self.take()?;
        text.map(|text| text.parse().map_err(unreadable)).transpose()
    }

    /// What is of a closed set of names.
    pub(super) fn named<T>(&mut self, named: impl Fn(&str) -> Option<T>) -> Result<T> {
        let name: String = self.take()?;
        named(&name).ok_or_else(|| unreadable("unknown name"))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        serde_json::from_str(&self.take::<String>()?).map_err(unreadable)
    }

    fn span(&mut self) -> Result<Option<Duration>> {
        let millis: Option<i64> = self.take()?;
        millis
            .map(|millis| u64::try_from(millis).map(Duration::from_millis).map_err(unreadable))
            .transpose()
    }
}

/// A row that was not written by us, or by a version of us that is not this one.
pub(super) fn unreadable(why: impl Display) -> Error {
    Error::internal(format!("unreadable row: {why}"))
}

/// A list or object, as stored.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

/// A list of grants, as stored.
pub(super) fn grants(grants: &[Grant]) -> Result<String> {
    json(&grants.iter().map(|grant| grant.as_str()).collect::<Vec<_>>())
}

/// A life, as stored.
pub(super) fn span(span: Option<Duration>) -> Option<i64> {
    span.map(millis)
}

/// A reuse policy, as stored.
pub(super) fn reuse_policy(policy: Option<ReusePolicy>) -> Option<&'static str> {
    policy.map(ReusePolicy::as_str)
}

/// The user whose columns begin at `first`; none where an outer join found none.
pub(super) fn user(row: &Row<'_>, first: usize) -> Result<Option<User>> {
    let mut columns = Columns::new(row, first);
    let Some(id) = columns.maybe_parsed()? else {
        return Ok(None);
    };
    Ok(Some(User {
        id,
        username: Username::from_stored(columns.take()?),
        email: columns.take()?,
        display_name: columns.take()?,
        roles: columns.json()?,
        attributes: columns.json()?,
        disabled: columns.take()?,
        created: columns.time()?,
        updated: columns.time()?,
        password_changed: columns.time()?,
        last_login: columns.maybe_time()?,
    }))
}

/// The client whose columns begin at `first`; none where an outer join found none.
pub(super) fn client(row: &Row<'_>, first: usize) -> Result<Option<Client>> {
    let mut columns = Columns::new(row, first);
    let Some(id) = columns.maybe_parsed()? else {
        return Ok(None);
    };
    let display_name = columns.take()?;
    let grants: Vec<String> = columns.json()?;
    Ok(Some(Client {
        id,
        display_name,
        grants: grants
            .iter()
            .map(|name| Grant::named(name).ok_or_else(|| unreadable("unknown grant")))
            .collect::<Result<_>>()?,
        audiences: columns.json()?,
        scopes: columns.json()?,
        access_token_ttl: columns.span()?,
        refresh_idle_ttl: columns.span()?,
        session_ttl: columns.span()?,
        refresh_grace: columns.span()?,
        reuse_policy: columns
            .take::<Option<String>>()?
            .map(|name| ReusePolicy::named(&name).ok_or_else(|| unreadable("unknown reuse policy")))
            .transpose()?,
        max_sessions_per_user: columns.take()?,
        disabled: columns.take()?,
        created: columns.time()?,
        updated: columns.time()?,
    }))
}

/// A revocation.
pub(super) fn revocation(row: &Row<'_>) -> Result<Revocation> {
    let mut columns = Columns::new(row, 0);
    let level = columns.named(Level::named)?;
    let id: String = columns.take()?;
    let keep = columns.maybe_parsed()?;
    Ok(Revocation {
        target: Target::from_parts(level, &id, keep).ok_or_else(|| unreadable("level and id do not fit"))?,
        epoch: columns.take()?,
        expires: columns.time()?,
        revoked: columns.time()?,
    })
}
