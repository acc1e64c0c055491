//! How a revocation is recorded.

use rusqlite::params;

use super::Tx;
use crate::clock::UnixMillis;
use crate::model::session::EXPIRED_RECORD_TTL;
use crate::model::{Level, Result, Revocation, Target};
use crate::store::durable::revocations::{read, revocation_columns};
use crate::store::durable::{Columns, unreadable};
use crate::store::revocations::{Expiry, Recorded};

/// Records a revocation: raises the epoch of its level, if the level has one, and inserts the row.
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
            Expiry::LongestSession => longest_session_end(tx)?,
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
            |row| read(&mut Columns::new(row)),
        )?,
    };
    Ok(Recorded {
        revocation: in_force,
        new: inserted == 1,
    })
}

fn raise(tx: &Tx<'_>, sql: &str, id: &str) -> Result<Option<i64>> {
    tx.first(sql, params![tx.now().0, id], |row| Ok(row.get(0)?))
}

/// When every session and token that is alive now has ended, plus the time for which expired records are kept.
fn longest_session_end(tx: &Tx<'_>) -> Result<UnixMillis> {
    let life: Option<i64> = tx.first("SELECT session_life FROM meta", [], |row| Ok(row.get(0)?))?;
    let life = life.ok_or_else(|| unreadable("meta is empty"))?;
    Ok(UnixMillis(tx.now().0.saturating_add(life)).plus(EXPIRED_RECORD_TTL))
}
