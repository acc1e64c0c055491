//! Transitions of keys. Those that depend on other rows than their own begin with [`lock`]: one at a time.

use sqlx::Row as _;
use uuid::Uuid;

use super::error::Result;
use super::record::{audit, audit_if, auditing, insert_audit, revoke_known};
use super::rows::{Columns, now};
use super::statement::{Session, Statement, sql};
use crate::clock::UnixMillis;
use crate::model::{Algorithm, AuditEvent, Error, ErrorKind, KeyId, KeyState, Revocation, Target};
use crate::store::change;
use crate::store::keys::{CheckRow, KeyRows, SecretPurpose, SecretRow, SigningRow};

/// Waits for other transitions of keys, and then reads all of them.
async fn lock(session: &mut Session<'_>) -> Result<KeyRows> {
    session.run(sql("SELECT FROM meta FOR UPDATE")).await?;
    load(session).await
}

/// All keys, of one moment.
pub(super) async fn snapshot(session: &mut Session<'_>) -> Result<KeyRows> {
    session
        .run(sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        .await?;
    load(session).await
}

async fn load(session: &mut Session<'_>) -> Result<KeyRows> {
    Ok(KeyRows {
        signing: session
            .all(
                sql(
                    "SELECT id, algorithm, public_jwk, sealed, state, created, activated, retired, revoked
                     FROM signing_keys ORDER BY created, id",
                ),
                |row| {
                    let mut columns = Columns::new(row, 0);
                    Ok(SigningRow {
                        id: columns.parsed()?,
                        algorithm: columns.named(Algorithm::named)?,
                        public_jwk: columns.take()?,
                        sealed: columns.take()?,
                        state: columns.named(KeyState::named)?,
                        created: columns.time()?,
                        activated: columns.maybe_time()?,
                        retired: columns.maybe_time()?,
                        revoked: columns.maybe_time()?,
                    })
                },
            )
            .await?,
        secrets: session
            .all(
                sql("SELECT purpose, id, sealed, created FROM secrets ORDER BY purpose COLLATE \"C\", id"),
                |row| {
                    let mut columns = Columns::new(row, 0);
                    Ok(SecretRow {
                        purpose: columns.named(SecretPurpose::named)?,
                        id: columns.unsigned()?,
                        sealed: columns.take()?,
                        created: columns.time()?,
                    })
                },
            )
            .await?,
        checks: session
            .all(
                sql("SELECT name, sealed FROM master_keys ORDER BY name COLLATE \"C\""),
                |row| {
                    Ok(CheckRow {
                        name: row.try_get(0)?,
                        sealed: row.try_get(1)?,
                    })
                },
            )
            .await?,
    })
}

pub(super) async fn ensure(session: &mut Session<'_>, proposed: &KeyRows, event: &AuditEvent) -> Result<KeyRows> {
    let stored = lock(session).await?;
    let lacking = change::lacking(&stored, proposed);
    if lacking == KeyRows::default() {
        return Ok(stored);
    }
    for key in &lacking.signing {
        insert_signing(session, key).await?;
    }
    for secret in &lacking.secrets {
        insert_secret(session, secret).await?;
    }
    for check in &lacking.checks {
        insert_check(session, check).await?;
    }
    audit(session, event).await?;
    load(session).await
}

pub(super) async fn add_pending(session: &mut Session<'_>, key: &SigningRow, event: &AuditEvent) -> Result<bool> {
    let stored = lock(session).await?.signing;
    if stored
        .iter()
        .any(|row| row.algorithm == key.algorithm && row.state == KeyState::Pending)
    {
        return Ok(false);
    }
    let key = SigningRow {
        state: KeyState::Pending,
        ..key.clone()
    };
    import(session, &key, event).await
}

pub(super) async fn import(session: &mut Session<'_>, key: &SigningRow, event: &AuditEvent) -> Result<bool> {
    let added = insert_signing(session, key).await?;
    audit_if(session, added, event).await
}

pub(super) async fn activate(
    session: &mut Session<'_>,
    id: &KeyId,
    active: Option<&KeyId>,
    event: &AuditEvent,
) -> Result<bool> {
    if !change::may_activate(&lock(session).await?.signing, id, active) {
        return Ok(false);
    }
    let at = moment(session).await?;
    let retire = sql("UPDATE signing_keys SET state = 'retired', retired = $1 WHERE state = 'active'").bind(at.0);
    session.run(retire).await?;
    begin_signing(session, id, at).await?;
    audit_if(session, true, event).await
}

pub(super) async fn revoke(
    session: &mut Session<'_>,
    id: &KeyId,
    standby: Option<&KeyId>,
    event: &AuditEvent,
) -> Result<(SigningRow, Option<Revocation>)> {
    let signing = lock(session).await?.signing;
    let mut key = signing
        .iter()
        .find(|key| key.id == *id)
        .ok_or(ErrorKind::KeyNotFound)?
        .clone();
    if key.state == KeyState::Revoked {
        return Ok((key, None));
    }
    let successor = change::successor(&signing, &key, standby)?;
    let at = moment(session).await?;
    let end = sql("UPDATE signing_keys SET state = 'revoked', revoked = $2 WHERE id = $1")
        .bind(id.as_str().to_owned())
        .bind(at.0);
    session.run(end).await?;
    if let Some(successor) = successor {
        begin_signing(session, successor, at).await?;
    }
    let revocation = revoke_known(session, &Target::Key(id.clone()), event).await?;
    key.state = KeyState::Revoked;
    key.revoked = Some(at);
    Ok((key, Some(revocation)))
}

/// Answers whether it was there to be removed.
pub(super) fn remove(id: &KeyId, event: &AuditEvent) -> Result<Statement> {
    const REMOVE: &str = concat!(
        "WITH gone AS (DELETE FROM signing_keys WHERE id = $12 AND state IN ('retired', 'revoked') RETURNING 1),
              audited AS (",
        insert_audit!("FROM gone"),
        ") SELECT EXISTS (SELECT FROM gone)"
    );
    Ok(auditing(REMOVE, event)?.bind(id.as_str().to_owned()))
}

pub(super) async fn add_secret(
    session: &mut Session<'_>,
    secret: &SecretRow,
    newest: u32,
    event: &AuditEvent,
) -> Result<bool> {
    if secret.id.checked_sub(1) != Some(newest) {
        return Err(Error::internal("a secret's id must be the next one").into());
    }
    let stored = lock(session).await?.secrets;
    let of_purpose = stored.iter().filter(|row| row.purpose == secret.purpose);
    if of_purpose.map(|row| row.id).max().unwrap_or(0) != newest {
        return Ok(false);
    }
    insert_secret(session, secret).await?;
    audit_if(session, true, event).await
}

/// Answers whether it was there to be removed.
pub(super) fn remove_secret(purpose: SecretPurpose, id: u32, event: &AuditEvent) -> Result<Statement> {
    const REMOVE: &str = concat!(
        "WITH gone AS (DELETE FROM secrets WHERE purpose = $12 AND id = $13
                       AND id < (SELECT max(id) FROM secrets WHERE purpose = $12) RETURNING 1),
              audited AS (",
        insert_audit!("FROM gone"),
        ") SELECT EXISTS (SELECT FROM gone)"
    );
    Ok(auditing(REMOVE, event)?.bind(purpose.as_str()).bind(i64::from(id)))
}

pub(super) async fn reseal(session: &mut Session<'_>, rows: &KeyRows, event: &AuditEvent) -> Result<()> {
    lock(session).await?;
    for key in &rows.signing {
        let seal = sql("UPDATE signing_keys SET sealed = $2 WHERE id = $1")
            .bind(key.id.as_str().to_owned())
            .bind(key.sealed.clone());
        session.run(seal).await?;
    }
    for secret in &rows.secrets {
        let seal = sql("UPDATE secrets SET sealed = $3 WHERE purpose = $1 AND id = $2")
            .bind(secret.purpose.as_str())
            .bind(i64::from(secret.id))
            .bind(secret.sealed.clone());
        session.run(seal).await?;
    }
    for check in &rows.checks {
        insert_check(session, check).await?;
    }
    audit(session, event).await
}

pub(super) fn heartbeat(replica: Uuid, loaded: &[KeyId]) -> Statement {
    // One that comes back after a day is not forgotten in the same breath.
    const BEAT: &str = concat!(
        "WITH silent AS (DELETE FROM replicas WHERE id <> $1 AND seen < ",
        now!(),
        " - 86400000)
         INSERT INTO replicas (id, seen, loaded) VALUES ($1, ",
        now!(),
        ", $2) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, loaded = excluded.loaded"
    );
    let loaded: Vec<String> = loaded.iter().map(ToString::to_string).collect();
    sql(BEAT).bind(replica).bind(loaded)
}

pub(super) fn loaded_everywhere(id: &KeyId, within_millis: i64) -> Statement {
    const LOADED: &str = concat!(
        "SELECT NOT EXISTS (SELECT FROM replicas WHERE seen > ",
        now!(),
        " - $2 AND $1 <> ALL (loaded))"
    );
    sql(LOADED).bind(id.as_str().to_owned()).bind(within_millis)
}

/// The time on the server, once the transaction has its turn.
async fn moment(session: &mut Session<'_>) -> Result<UnixMillis> {
    let now = session.first(sql(concat!("SELECT ", now!())), |row| Ok(UnixMillis(row.try_get(0)?)));
    now.await?.ok_or_else(|| Error::internal("no time").into())
}

async fn begin_signing(session: &mut Session<'_>, id: &KeyId, at: UnixMillis) -> Result<()> {
    let begin = sql("UPDATE signing_keys SET state = 'active', activated = $2 WHERE id = $1")
        .bind(id.as_str().to_owned())
        .bind(at.0);
    session.run(begin).await.map(drop)
}

async fn insert_signing(session: &mut Session<'_>, key: &SigningRow) -> Result<bool> {
    const INSERT: &str =
        "INSERT INTO signing_keys (id, algorithm, public_jwk, sealed, state, created, activated, retired, revoked)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING";
    let insert = sql(INSERT)
        .bind(key.id.as_str().to_owned())
        .bind(key.algorithm.as_str())
        .bind(key.public_jwk.clone())
        .bind(key.sealed.clone())
        .bind(key.state.as_str())
        .bind(key.created.0)
        .bind(key.activated.map(|at| at.0))
        .bind(key.retired.map(|at| at.0))
        .bind(key.revoked.map(|at| at.0));
    Ok(session.run(insert).await? == 1)
}

async fn insert_secret(session: &mut Session<'_>, secret: &SecretRow) -> Result<()> {
    let insert = sql("INSERT INTO secrets (purpose, id, sealed, created) VALUES ($1, $2, $3, $4)")
        .bind(secret.purpose.as_str())
        .bind(i64::from(secret.id))
        .bind(secret.sealed.clone())
        .bind(secret.created.0);
    session.run(insert).await.map(drop)
}

async fn insert_check(session: &mut Session<'_>, check: &CheckRow) -> Result<()> {
    let insert = sql("INSERT INTO master_keys (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(check.name.clone())
        .bind(check.sealed.clone());
    session.run(insert).await.map(drop)
}
