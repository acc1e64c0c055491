//! Writing back revocations that the database has lost: those that the index of a replica has.

use super::statement::{Statement, Value, json, sql};
use super::transaction::Transaction;
use crate::model::{Level, Result, Revocation, Target};

/// A lost revocation, as the statements read it: level, id, kept session, epoch, expiry, time of the revocation.
type LostRow<'r> = (&'r str, String, Option<String>, i64, i64, i64);

/// The JSON list of the lost revocations, the argument of every statement.
pub(super) fn argument(lost: &[Revocation]) -> Result<Value> {
    let rows: Vec<LostRow<'_>> = lost
        .iter()
        .map(|row| {
            let keep = row.target.keep().map(|keep| keep.to_string());
            let level = row.target.level().as_str();
            (level, row.target.id(), keep, row.epoch, row.expires.0, row.revoked.0)
        })
        .collect();
    json(&rows)
}

/// The largest epoch of the lost revocations of everything; 0 if there is none.
pub(super) fn global_epoch(lost: &[Revocation]) -> i64 {
    let global = lost.iter().filter(|row| row.target == Target::Global);
    global.map(|row| row.epoch).max().unwrap_or(0)
}

/// Writes the lost revocations back; returns the levels of the new rows and their numbers.
pub(super) async fn write_back(
    tx: &mut Transaction<'_>,
    (lost, global_epoch): &(Value, i64),
) -> Result<Vec<(Level, u64)>> {
    // First, and even if nothing changes: the lock on the row lets one replica write at a time, so that the next one sees the
    // rows of this one.
    let raise_global = sql!("UPDATE meta SET epoch = ", greatest, "(epoch, $1)");
    tx.run(raise_global.bind(*global_epoch)).await?;
    for raise in [raise_users(), raise_clients()] {
        tx.run(raise.bind(lost.clone())).await?;
    }
    let levels = tx.all(insert().bind(lost.clone()), |columns| columns.named(Level::named));
    let mut added: Vec<(Level, u64)> = Vec::new();
    for level in levels.await? {
        match added.iter_mut().find(|(known, _)| *known == level) {
            Some((_, rows)) => *rows += 1,
            None => added.push((level, 1)),
        }
    }
    tx.audit_if(!added.is_empty()).await?;
    Ok(added)
}

fn raise_users() -> Statement {
    sql!(
        "UPDATE users SET epoch = lost.epoch
         FROM (SELECT item.value ->> 1 AS id, max(CAST(item.value ->> 3 AS bigint)) AS epoch
               FROM ",
        json_elements,
        "($1) AS item WHERE item.value ->> 0 = 'user' GROUP BY item.value ->> 1) AS lost
         WHERE users.id = lost.id",
        as_uuid,
        " AND users.epoch < lost.epoch"
    )
}

fn raise_clients() -> Statement {
    sql!(
        "UPDATE clients SET epoch = lost.epoch
         FROM (SELECT item.value ->> 1 AS id, max(CAST(item.value ->> 3 AS bigint)) AS epoch
               FROM ",
        json_elements,
        "($1) AS item WHERE item.value ->> 0 = 'client' GROUP BY item.value ->> 1) AS lost
         WHERE clients.id = lost.id AND clients.epoch < lost.epoch"
    )
}

/// Inserts the rows that the table does not cover. Rows of a token, session or key have the epoch 0; all others have a larger
/// one.
fn insert() -> Statement {
    sql!(
        "INSERT INTO revocations (level, id, keep, epoch, expires, revoked)
         SELECT item.value ->> 0, item.value ->> 1, (item.value ->> 2)",
        as_uuid,
        ", CAST(item.value ->> 3 AS bigint), CAST(item.value ->> 4 AS bigint), CAST(item.value ->> 5 AS bigint)
         FROM ",
        json_elements,
        "($1) AS item
         WHERE CAST(item.value ->> 4 AS bigint) > ",
        now,
        " AND NOT EXISTS (SELECT 1 FROM revocations AS r
                          WHERE r.level = item.value ->> 0 AND r.id = item.value ->> 1 AND r.epoch = 0)
          AND NOT EXISTS (SELECT 1 FROM revocations AS r
                          WHERE r.level = item.value ->> 0 AND r.id = item.value ->> 1 AND r.epoch > 0
                                AND r.epoch >= CAST(item.value ->> 3 AS bigint)
                                AND (r.keep IS NULL OR CAST(r.keep AS text) = item.value ->> 2))
         ON CONFLICT (level, id) WHERE epoch = 0 DO NOTHING
         RETURNING level"
    )
}
