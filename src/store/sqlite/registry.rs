//! Transitions of clients and their secrets.

use std::time::Duration;

use rusqlite::params;

use super::Tx;
use super::error::unless_duplicate;
use super::record::{audit, note_life, revoke_known};
use super::rows::{self, client_columns, grants, json, reuse_policy, span};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, Client, ClientChange, ClientId, ErrorKind, Result, Revocation, Target};
use crate::store::{Page, change};

pub(super) fn by_id(tx: &Tx<'_>, id: &ClientId) -> Result<Option<Client>> {
    let sql = concat!("SELECT ", client_columns!(), " FROM clients WHERE id = ?1");
    Ok(tx.first(sql, [id.as_str()], |row| rows::client(row, 0))?.flatten())
}

pub(super) fn create(tx: &Tx<'_>, client: &Client, secret: Option<&[u8; 32]>, event: &AuditEvent) -> Result<()> {
    let inserted = tx.run(
        "INSERT INTO clients (id, display_name, grants, audiences, scopes, access_token_ttl, refresh_idle_ttl,
                              session_ttl, refresh_grace, reuse_policy, max_sessions_per_user, disabled, epoch,
                              created, updated)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
                 (SELECT coalesce(max(epoch), 0) FROM revocations WHERE level = 'client' AND id = ?1 AND epoch > 0),
                 ?13, ?14)",
        params![
            client.id.as_str(),
            client.display_name,
            grants(&client.grants)?,
            json(&client.audiences)?,
            json(&client.scopes)?,
            span(client.access_token_ttl),
            span(client.refresh_idle_ttl),
            span(client.session_ttl),
            span(client.refresh_grace),
            reuse_policy(client.reuse_policy),
            client.max_sessions_per_user,
            client.disabled,
            client.created.0,
            client.updated.0,
        ],
    );
    unless_duplicate(inserted, ErrorKind::ClientExists)?;
    if let Some(hash) = secret {
        add_secret(tx, &client.id, hash)?;
    }
    if let Some(life) = client.session_ttl {
        note_life(tx, life)?;
    }
    audit(tx, event)
}

pub(super) fn ensure(tx: &Tx<'_>, client: &Client, event: &AuditEvent) -> Result<bool> {
    if by_id(tx, &client.id)?.is_some() {
        return Ok(false);
    }
    create(tx, client, None, event).map(|()| true)
}

pub(super) fn list(tx: &Tx<'_>, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>> {
    let found = tx.all(
        concat!(
            "SELECT ",
            client_columns!(),
            " FROM clients WHERE id > ?1 ORDER BY id LIMIT ?2"
        ),
        params![after.map_or("", ClientId::as_str), i64::from(limit) + 1],
        |row| rows::client(row, 0),
    )?;
    Ok(Page::of(found.into_iter().flatten().collect(), limit, |client| {
        client.id.to_string()
    }))
}

pub(super) fn update(
    tx: &Tx<'_>,
    id: &ClientId,
    wanted: &ClientChange,
    expected: Option<UnixMillis>,
    callable: Option<&[String]>,
    event: &AuditEvent,
) -> Result<(Client, Option<Revocation>)> {
    let client = by_id(tx, id)?.ok_or(ErrorKind::ClientNotFound)?;
    let changed = change::client(client, wanted, expected, callable, tx.now())?;
    let client = &changed.row;
    tx.run(
        "UPDATE clients SET display_name = ?2, grants = ?3, audiences = ?4, scopes = ?5, access_token_ttl = ?6,
                            refresh_idle_ttl = ?7, session_ttl = ?8, refresh_grace = ?9, reuse_policy = ?10,
                            max_sessions_per_user = ?11, disabled = ?12, updated = ?13
         WHERE id = ?1",
        params![
            id.as_str(),
            client.display_name,
            grants(&client.grants)?,
            json(&client.audiences)?,
            json(&client.scopes)?,
            span(client.access_token_ttl),
            span(client.refresh_idle_ttl),
            span(client.session_ttl),
            span(client.refresh_grace),
            reuse_policy(client.reuse_policy),
            client.max_sessions_per_user,
            client.disabled,
            client.updated.0,
        ],
    )?;
    if let Some(life) = client.session_ttl {
        note_life(tx, life)?;
    }
    let revocation = changed.lost.then(|| everything_at(tx, id)).transpose()?;
    audit(tx, event)?;
    Ok((changed.row, revocation))
}

pub(super) fn delete(
    tx: &Tx<'_>,
    id: &ClientId,
    callable: Option<&[String]>,
    event: &AuditEvent,
) -> Result<Revocation> {
    callable_client(tx, id, callable)?;
    let revocation = everything_at(tx, id)?;
    tx.run("DELETE FROM clients WHERE id = ?1", [id.as_str()])?;
    audit(tx, event)?;
    Ok(revocation)
}

pub(super) fn rotate_secret(
    tx: &Tx<'_>,
    id: &ClientId,
    hash: &[u8; 32],
    overlap: Duration,
    callable: Option<&[String]>,
    event: &AuditEvent,
) -> Result<(UnixMillis, Option<Revocation>)> {
    callable_client(tx, id, callable)?;
    let ends = tx.now().plus(overlap);
    tx.run(
        "DELETE FROM client_secrets WHERE client_id = ?1 AND expires <= ?2",
        params![id.as_str(), tx.now().0],
    )?;
    tx.run(
        "UPDATE client_secrets SET expires = min(coalesce(expires, ?2), ?2) WHERE client_id = ?1",
        params![id.as_str(), ends.0],
    )?;
    add_secret(tx, id, hash)?;
    let revocation = overlap.is_zero().then(|| everything_at(tx, id)).transpose()?;
    audit(tx, event)?;
    Ok((ends, revocation))
}

fn callable_client(tx: &Tx<'_>, id: &ClientId, callable: Option<&[String]>) -> Result<()> {
    let client = by_id(tx, id)?.ok_or(ErrorKind::ClientNotFound)?;
    change::may_call(&client, callable)
}

fn add_secret(tx: &Tx<'_>, id: &ClientId, hash: &[u8; 32]) -> Result<()> {
    tx.run(
        "INSERT INTO client_secrets (client_id, hash, expires) VALUES (?1, ?2, NULL)",
        params![id.as_str(), hash],
    )?;
    Ok(())
}

fn everything_at(tx: &Tx<'_>, id: &ClientId) -> Result<Revocation> {
    revoke_known(tx, &Target::Client(id.clone()))
}
