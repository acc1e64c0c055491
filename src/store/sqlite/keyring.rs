//! Transitions of keys.

use rusqlite::params;
use uuid::Uuid;

use super::Tx;
use super::record::{audit, revoke_known};
use super::rows::{Columns, json};
use crate::clock::UnixMillis;
use crate::model::{Algorithm, AuditEvent, Error, ErrorKind, KeyId, KeyState, Result, Revocation, Target};
use crate::store::change;
use crate::store::keys::{CheckRow, KeyRows, SecretPurpose, SecretRow, SigningRow};

/// A replica that has been silent for so long is forgotten, in milliseconds.
const SILENT: i64 = 24 * 60 * 60 * 1000;

pub(super) fn load(tx: &Tx<'_>) -> Result<KeyRows> {
    Ok(KeyRows {
        signing: tx.all(
            "SELECT id, algorithm, public_jwk, sealed, state, created, activated, retired, revoked
             FROM signing_keys ORDER BY created, id",
            [],
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
        )?,
        secrets: tx.all(
            "SELECT purpose, id, sealed, created FROM secrets ORDER BY purpose, id",
            [],
            |row| {
                let mut columns = Columns::new(row, 0);
                Ok(SecretRow {
                    purpose: columns.named(SecretPurpose::named)?,
                    id: columns.take()?,
                    sealed: columns.take()?,
                    created: columns.time()?,
                })
            },
        )?,
        checks: tx.all("SELECT name, sealed FROM master_keys ORDER BY name", [], |row| {
            Ok(CheckRow {
                name: row.get(0)?,
                sealed: row.get(1)?,
            })
        })?,
    })
}

pub(super) fn ensure(tx: &Tx<'_>, proposed: &KeyRows, event: &AuditEvent) -> Result<KeyRows> {
    let stored = load(tx)?;
    let lacking = change::lacking(&stored, proposed);
    if lacking == KeyRows::default() {
        return Ok(stored);
    }
    for key in &lacking.signing {
        insert_signing(tx, key)?;
    }
    for secret in &lacking.secrets {
        insert_secret(tx, secret)?;
    }
    for check in &lacking.checks {
        insert_check(tx, check)?;
    }
    audit(tx, event)?;
    load(tx)
}

pub(super) fn add_pending(tx: &Tx<'_>, key: &SigningRow, event: &AuditEvent) -> Result<bool> {
    let sql = "SELECT 1 FROM signing_keys WHERE algorithm = ?1 AND state = 'pending'";
    if tx.first(sql, [key.algorithm.as_str()], |_| Ok(()))?.is_some() {
        return Ok(false);
    }
    let key = SigningRow {
        state: KeyState::Pending,
        ..key.clone()
    };
    import(tx, &key, event)
}

pub(super) fn import(tx: &Tx<'_>, key: &SigningRow, event: &AuditEvent) -> Result<bool> {
    let added = insert_signing(tx, key)?;
    if added {
        audit(tx, event)?;
    }
    Ok(added)
}

pub(super) fn activate(tx: &Tx<'_>, id: &KeyId, active: Option<&KeyId>, event: &AuditEvent) -> Result<bool> {
    let at = tx.now();
    if !change::may_activate(&load(tx)?.signing, id, active) {
        return Ok(false);
    }
    tx.run(
        "UPDATE signing_keys SET state = 'retired', retired = ?1 WHERE state = 'active'",
        [at.0],
    )?;
    begin_signing(tx, id, at)?;
    audit(tx, event)?;
    Ok(true)
}

pub(super) fn revoke(
    tx: &Tx<'_>,
    id: &KeyId,
    standby: Option<&KeyId>,
    event: &AuditEvent,
) -> Result<(SigningRow, Option<Revocation>)> {
    let signing = load(tx)?.signing;
    let mut key = signing
        .iter()
        .find(|key| key.id == *id)
        .ok_or(ErrorKind::KeyNotFound)?
        .clone();
    if key.state == KeyState::Revoked {
        return Ok((key, None));
    }
    let successor = change::successor(&signing, &key, standby)?;
    let at = tx.now();
    tx.run(
        "UPDATE signing_keys SET state = 'revoked', revoked = ?2 WHERE id = ?1",
        params![id.as_str(), at.0],
    )?;
    if let Some(successor) = successor {
        begin_signing(tx, successor, at)?;
    }
    let revocation = revoke_known(tx, &Target::Key(id.clone()))?;
    audit(tx, event)?;
    key.state = KeyState::Revoked;
    key.revoked = Some(at);
    Ok((key, Some(revocation)))
}

pub(super) fn remove(tx: &Tx<'_>, id: &KeyId, event: &AuditEvent) -> Result<bool> {
    let sql = "DELETE FROM signing_keys WHERE id = ?1 AND state IN ('retired', 'revoked')";
    noted(tx, tx.run(sql, [id.as_str()])? == 1, event)
}

pub(super) fn add_secret(tx: &Tx<'_>, secret: &SecretRow, newest: u32, event: &AuditEvent) -> Result<bool> {
    if secret.id.checked_sub(1) != Some(newest) {
        return Err(Error::internal("a secret's id must be the next one"));
    }
    let now_newest: Option<u32> = tx
        .first(
            "SELECT max(id) FROM secrets WHERE purpose = ?1",
            [secret.purpose.as_str()],
            |row| Ok(row.get(0)?),
        )?
        .flatten();
    let added = now_newest.unwrap_or(0) == newest && insert_secret(tx, secret)?;
    noted(tx, added, event)
}

pub(super) fn remove_secret(tx: &Tx<'_>, purpose: SecretPurpose, id: u32, event: &AuditEvent) -> Result<bool> {
    let removed = tx.run(
        "DELETE FROM secrets WHERE purpose = ?1 AND id = ?2
         AND id < (SELECT max(id) FROM secrets WHERE purpose = ?1)",
        params![purpose.as_str(), id],
    )?;
    noted(tx, removed == 1, event)
}

pub(super) fn reseal(tx: &Tx<'_>, rows: &KeyRows, event: &AuditEvent) -> Result<()> {
    for key in &rows.signing {
        tx.run(
            "UPDATE signing_keys SET sealed = ?2 WHERE id = ?1",
            params![key.id.as_str(), key.sealed],
        )?;
    }
    for secret in &rows.secrets {
        tx.run(
            "UPDATE secrets SET sealed = ?3 WHERE purpose = ?1 AND id = ?2",
            params![secret.purpose.as_str(), secret.id, secret.sealed],
        )?;
    }
    for check in &rows.checks {
        insert_check(tx, check)?;
    }
    audit(tx, event)
}

pub(super) fn heartbeat(tx: &Tx<'_>, replica: Uuid, loaded: &[KeyId]) -> Result<()> {
    tx.run(
        "INSERT INTO replicas (id, seen, loaded) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET seen = excluded.seen, loaded = excluded.loaded",
        params![replica.to_string(), tx.now().0, json(loaded)?],
    )?;
    tx.run(
        "DELETE FROM replicas WHERE seen < ?1",
        [tx.now().0.saturating_sub(SILENT)],
    )?;
    Ok(())
}

pub(super) fn loaded_everywhere(tx: &Tx<'_>, id: &KeyId, within_millis: i64) -> Result<bool> {
    let lacking = tx.first(
        "SELECT 1 FROM replicas WHERE seen > ?1
         AND NOT EXISTS (SELECT 1 FROM json_each(replicas.loaded) AS key WHERE key.value = ?2)",
        params![tx.now().0.saturating_sub(within_millis), id.as_str()],
        |_| Ok(()),
    )?;
    Ok(lacking.is_none())
}

fn noted(tx: &Tx<'_>, done: bool, event: &AuditEvent) -> Result<bool> {
    if done {
        audit(tx, event)?;
    }
    Ok(done)
}

fn begin_signing(tx: &Tx<'_>, id: &KeyId, at: UnixMillis) -> Result<()> {
    tx.run(
        "UPDATE signing_keys SET state = 'active', activated = ?2 WHERE id = ?1",
        params![id.as_str(), at.0],
    )?;
    Ok(())
}

fn insert_signing(tx: &Tx<'_>, key: &SigningRow) -> Result<bool> {
    let inserted = tx.run(
        "INSERT INTO signing_keys (id, algorithm, public_jwk, sealed, state, created, activated, retired, revoked)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
        params![
            key.id.as_str(),
            key.algorithm.as_str(),
            key.public_jwk,
            key.sealed,
            key.state.as_str(),
            key.created.0,
            key.activated.map(|at| at.0),
            key.retired.map(|at| at.0),
            key.revoked.map(|at| at.0),
        ],
    )?;
    Ok(inserted == 1)
}

fn insert_secret(tx: &Tx<'_>, secret: &SecretRow) -> Result<bool> {
    let inserted = tx.run(
        "INSERT INTO secrets (purpose, id, sealed, created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![secret.purpose.as_str(), secret.id, secret.sealed, secret.created.0],
    )?;
    Ok(inserted == 1)
}

fn insert_check(tx: &Tx<'_>, check: &CheckRow) -> Result<()> {
    tx.run(
        "INSERT INTO master_keys (name, sealed) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![check.name, check.sealed],
    )?;
    Ok(())
}
