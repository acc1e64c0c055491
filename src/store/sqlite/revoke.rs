//! How a revocation is recorded.

use rusqlite::params;

use super::Tx;
use crate::clock::millis;
use crate::model::session::EXPIRED_RECORD_TTL;
use crate::model::{Level, Result, Revocation};
use crate::store::durable::revocations::{read, revocation_columns};
use crate::store::durable::{Columns, Statement};
use crate::store::{Expiry, NewRevocation};

/// Raises the epoch of the level, if the level has one, inserts the row and runs `append`, which writes the event. `None`
/// if the user or client does not exist, or if the token, session or key was revoked before.
pub(super) fn revoke(tx: &Tx<'_>, new: &NewRevocation, append: &Statement) -> Result<Option<Revocation>> {
    let (target, id) = (&new.target, new.target.id());
    let raise = |sql| tx.first(sql, params![tx.now().0, id], |row| Ok(row.get::<_, i64>(0)?));
    let epoch = match target.level() {
        Level::Token | Level::Session | Level::Key => Some(0),
        Level::User => raise("UPDATE users SET epoch = max(epoch + 1, ?1) WHERE id = ?2 RETURNING epoch")?,
        Level::Client => raise("UPDATE clients SET epoch = max(epoch + 1, ?1) WHERE id = ?2 RETURNING epoch")?,
        Level::Global => raise("UPDATE meta SET epoch = max(epoch + 1, ?1) WHERE ?2 = '' RETURNING epoch")?,
    };
    let Some(epoch) = epoch else { return Ok(None) };
    let at = match new.expires {
        Expiry::At(moment) => Some(moment.0),
        Expiry::LongestSession => None,
    };
    // The row in force is looked for: an insertion that meets it would still take a number of the sequence.
    let insert = concat!(
        "INSERT INTO revocations (level, id, keep, epoch, expires, revoked)
         SELECT ?1, ?2, ?3, ?4, coalesce(?5, ?6 + session_life + ?7), ?6 FROM meta
         WHERE NOT EXISTS (SELECT 1 FROM revocations AS r WHERE r.level = ?1 AND r.id = ?2 AND r.epoch = 0)
         RETURNING ",
        revocation_columns!()
    );
    let arguments = params![
        target.level().as_str(),
        id,
        target.keep().map(|keep| keep.to_string()),
        epoch,
        at,
        tx.now().0,
        millis(EXPIRED_RECORD_TTL),
    ];
    let revocation = tx.first(insert, arguments, |row| read(&mut Columns::new(row)))?;
    if revocation.is_some() {
        tx.execute(append)?;
    }
    Ok(revocation)
}
