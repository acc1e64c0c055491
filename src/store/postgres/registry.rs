//! Transitions of clients and their secrets.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::Result;
use super::record::{audit_or_revoke, auditing, insert_audit, revoke_known};
use super::rows::{self, CLIENT_COLUMNS, client_columns, grants, now, reuse_policy, span};
use super::statement::{Session, Statement, sql};
use crate::clock::{UnixMillis, millis};
use crate::model::{AuditEvent, Client, ClientChange, ClientId, ErrorKind, Revocation, Target};
use crate::store::change;

pub(super) fn by_id(id: &ClientId) -> Statement {
    sql(concat!("SELECT ", client_columns!(), " FROM clients WHERE id = $1")).bind(id.as_str().to_owned())
}

pub(super) fn read(row: &PgRow) -> Result<Option<Client>> {
    rows::client(row, 0)
}

/// The row of a client that the transaction changes, and the time on the server.
async fn lock(session: &mut Session<'_>, id: &ClientId) -> Result<(Client, UnixMillis)> {
    const LOCK: &str = concat!(
        "SELECT ",
        client_columns!(),
        ", ",
        now!(),
        " FROM clients WHERE id = $1 FOR UPDATE"
    );
    let found = session.first(sql(LOCK).bind(id.as_str().to_owned()), |row| {
        let now = UnixMillis(row.try_get(CLIENT_COLUMNS)?);
        Ok(rows::client(row, 0)?.map(|client| (client, now)))
    });
    Ok(found.await?.flatten().ok_or(ErrorKind::ClientNotFound)?)
}

/// Answers whether the id was free.
pub(super) fn create(client: &Client, secret: Option<[u8; 32]>, event: &AuditEvent) -> Result<Statement> {
    const CREATE: &str = concat!(
        "WITH made AS (
             INSERT INTO clients (id, display_name, grants, audiences, scopes, access_token_ttl, refresh_idle_ttl,
                                  session_ttl, refresh_grace, reuse_policy, max_sessions_per_user, disabled, created,
                                  updated, epoch)
             SELECT $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
                    (SELECT coalesce(max(epoch), 0) FROM revocations
                     WHERE level = 'client' AND id = $12 AND epoch > 0)
             ON CONFLICT DO NOTHING RETURNING id, session_ttl
         ), secret AS (
             INSERT INTO client_secrets (client_id, hash) SELECT id, $26 FROM made WHERE $26 IS NOT NULL
         ), life AS (
             UPDATE meta SET session_life = made.session_ttl FROM made WHERE meta.session_life < made.session_ttl
         ), audited AS (",
        insert_audit!("FROM made"),
        ") SELECT EXISTS (SELECT FROM made)"
    );
    Ok(settings(auditing(CREATE, event)?, client)
        .bind(client.created.0)
        .bind(client.updated.0)
        .bind(secret.map(|hash| hash.to_vec())))
}

pub(super) fn list(after: Option<&ClientId>, limit: u32) -> Statement {
    sql(concat!(
        "SELECT ",
        client_columns!(),
        " FROM clients WHERE id > $1 ORDER BY id LIMIT $2"
    ))
    .bind(after.map_or("", ClientId::as_str).to_owned())
    .bind(i64::from(limit) + 1)
}

pub(super) async fn update(
    session: &mut Session<'_>,
    id: &ClientId,
    wanted: &ClientChange,
    expected: Option<UnixMillis>,
    callable: Option<&[String]>,
    event: &AuditEvent,
) -> Result<(Client, Option<Revocation>)> {
    const STORE: &str = "UPDATE clients SET display_name = $2, grants = $3, audiences = $4, scopes = $5,
                                            access_token_ttl = $6, refresh_idle_ttl = $7, session_ttl = $8,
                                            refresh_grace = $9, reuse_policy = $10, max_sessions_per_user = $11,
                                            disabled = $12, updated = $13
                         WHERE id = $1";
    let (client, now) = lock(session, id).await?;
    let changed = change::client(client, wanted, expected, callable, now)?;
    let client = changed.row;
    session
        .run(settings(sql(STORE), &client).bind(client.updated.0))
        .await?;
    if let Some(life) = client.session_ttl {
        session.run(note_life(life)).await?;
    }
    let revocation = audit_or_revoke(session, changed.lost, &Target::Client(id.clone()), event).await?;
    Ok((client, revocation))
}

pub(super) async fn delete(
    session: &mut Session<'_>,
    id: &ClientId,
    callable: Option<&[String]>,
    event: &AuditEvent,
) -> Result<Revocation> {
    let (client, _) = lock(session, id).await?;
    change::may_call(&client, callable)?;
    let revocation = revoke_known(session, &Target::Client(id.clone()), event).await?;
    let gone = sql("DELETE FROM clients WHERE id = $1").bind(id.as_str().to_owned());
    session.run(gone).await?;
    Ok(revocation)
}

pub(super) async fn rotate_secret(
    session: &mut Session<'_>,
    id: &ClientId,
    hash: [u8; 32],
    overlap: Duration,
    callable: Option<&[String]>,
    event: &AuditEvent,
) -> Result<(UnixMillis, Option<Revocation>)> {
    let (client, now) = lock(session, id).await?;
    change::may_call(&client, callable)?;
    let ends = now.plus(overlap);
    let id_text = || id.as_str().to_owned();
    for statement in [
        sql("DELETE FROM client_secrets WHERE client_id = $1 AND expires <= $2")
            .bind(id_text())
            .bind(now.0),
        sql("UPDATE client_secrets SET expires = least(expires, $2) WHERE client_id = $1")
            .bind(id_text())
            .bind(ends.0),
        sql("INSERT INTO client_secrets (client_id, hash) VALUES ($1, $2)")
            .bind(id_text())
            .bind(hash.to_vec()),
    ] {
        session.run(statement).await?;
    }
    let revocation = audit_or_revoke(session, overlap.is_zero(), &Target::Client(id.clone()), event).await?;
    Ok((ends, revocation))
}

/// Raises the high-water mark of session lives.
pub(super) fn note_life(life: Duration) -> Statement {
    sql("UPDATE meta SET session_life = $1 WHERE session_life < $1").bind(millis(life))
}

/// Binds the id and what of a client can be set.
fn settings(statement: Statement, client: &Client) -> Statement {
    statement
        .bind(client.id.as_str().to_owned())
        .bind(client.display_name.clone())
        .bind(grants(&client.grants))
        .bind(client.audiences.clone())
        .bind(client.scopes.clone())
        .bind(span(client.access_token_ttl))
        .bind(span(client.refresh_idle_ttl))
        .bind(span(client.session_ttl))
        .bind(span(client.refresh_grace))
        .bind(reuse_policy(client.reuse_policy))
        .bind(i64::from(client.max_sessions_per_user))
        .bind(client.disabled)
}
