//! What every transition may also do: record a revocation, append an audit event.

use rusqlite::{OptionalExtension as _, params};

use super::Tx;
use super::rows::{self, json, revocation_columns};
use crate::clock::{UnixMillis, millis};
use crate::model::session::EXPIRED_RECORD_TTL;
use crate::model::{AuditEvent, Error, Level, Result, Revocation, Target};
use crate::store::revocations::{Expiry, Recorded};

/// Records a revocation: raises the epoch of its level, if it has one, and inserts the row.
pub(super) fn revoke(tx: &Tx<'_>, target: &Target, expires: Expiry) -> Result<Recorded> {
    let (level, id) = (target.level(), target.id());
    let epoch = match level {
        Level::Token | Level::Session | Level::Key => Some(0),
        Level::User => raise(
            tx,
            "UPDATE users SET epoch = max(epoch + 1, ?1) WHERE id = ?2 RETURNING epoch",
            &id,
        )?,
        Level::Client => raise(
            tx,
            "UPDATE clients SET epoch = max(epoch + 1, ?1) WHERE id = ?2 RETURNING epoch",
            &id,
        )?,
        Level::Global => raise(
            tx,
            "UPDATE meta SET epoch = max(epoch + 1, ?1) WHERE ?2 = '' RETURNING epoch",
            &id,
        )?,
    };
    let Some(epoch) = epoch else {
        return Ok(Recorded {
            revocation: None,
            new: false,
        });
    };
    let revocation = Revocation {
        target: target.clone(),
        epoch,
        expires: match expires {
            Expiry::At(moment) => moment,
            Expiry::LongestSession => longest(tx)?,
        },
        revoked: tx.now(),
    };
    let inserted = tx.run(
        "INSERT INTO revocations (level, id, keep, epoch, expires, revoked) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO NOTHING",
        params![
            level.as_str(),
            id,
            target.keep().map(|keep| keep.to_string()),
            epoch,
            revocation.expires.0,
            revocation.revoked.0
        ],
    )?;
    let in_force = match inserted {
        1 => Some(revocation),
        _ => tx.first(
            concat!(
                "SELECT ",
                revocation_columns!(),
                " FROM revocations WHERE level = ?1 AND id = ?2 AND epoch = 0"
            ),
            params![level.as_str(), id],
            rows::revocation,
        )?,
    };
    Ok(Recorded {
        revocation: in_force,
        new: inserted == 1,
    })
}

/// [`revoke`], of something that this very transaction has found to exist.
pub(super) fn revoke_known(tx: &Tx<'_>, target: &Target) -> Result<Revocation> {
    revoke(tx, target, Expiry::LongestSession)?
        .revocation
        .ok_or_else(|| Error::internal("what is revoked has gone"))
}

/// Appends an event. The same event twice is one.
pub(super) fn audit(tx: &Tx<'_>, event: &AuditEvent) -> Result<()> {
    tx.run(
        "INSERT INTO audit_events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
        params![
            event.id.to_string(),
            event.time.0,
            event.kind,
            event.origin.actor,
            event.origin.ip_address,
            event.origin.request_id,
            event.subject,
            event.client_id,
            event.session_id.map(|id| id.to_string()),
            event.outcome,
            json(&event.details)?,
        ],
    )?;
    Ok(())
}

/// Raises the high-water mark of session lives.
pub(super) fn note_life(tx: &Tx<'_>, life: std::time::Duration) -> Result<()> {
    tx.run(
        "UPDATE meta SET session_life = ?1 WHERE session_life < ?1",
        [millis(life)],
    )?;
    Ok(())
}

fn raise(tx: &Tx<'_>, sql: &str, id: &str) -> Result<Option<i64>> {
    tx.first(sql, params![tx.now().0, id], |row| Ok(row.get(0)?))
}

/// When nothing can be alive any more of what is alive now.
fn longest(tx: &Tx<'_>) -> Result<UnixMillis> {
    let life: Option<i64> = tx
        .first("SELECT session_life FROM meta", [], |row| Ok(row.get(0).optional()?))?
        .flatten();
    Ok(UnixMillis(tx.now().0.saturating_add(life.unwrap_or(0))).plus(EXPIRED_RECORD_TTL))
}
