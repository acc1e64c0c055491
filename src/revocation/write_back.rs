//! Writing back what a replaced database lacks: a standby that was promoted before it had received every revocation, or a
//! restored backup. The index of a replica still knows those of the last 24 hours.

use std::collections::HashMap;
use std::time::Duration;

use super::feed::Feed;
use super::index::{Index, SnapshotCursor, retained_until};
use crate::clock::UnixMillis;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Level, Result, Revocation};
use crate::store::{LOST_PART, RevocationStore};

/// The index keeps expiries in whole minutes, rounded up.
const ROUNDING: Duration = Duration::from_mins(1);

impl Feed {
    /// Writes the revocations of the index back that are not among `loaded`, the rows of a database that replaced another.
    /// Other replicas may do the same at once.
    pub(super) async fn write_back(&self, store: &dyn RevocationStore, loaded: &[Revocation]) -> Result<()> {
        let lost = lost(self.index(), loaded, self.capped_now());
        if lost.is_empty() {
            tracing::info!("the database was replaced; all revocations are loaded again, and none is missing");
            return Ok(());
        }
        let mut written: HashMap<Level, u64> = HashMap::new();
        for part in lost.chunks(LOST_PART) {
            let event = AuditEvent::new(
                AuditType::RevocationsWrittenBack,
                &"revocations",
                &Origin::system(),
                self.clock().now(),
                self.entropy(),
            )
            .with_detail("revocations", part.len());
            for (level, rows) in store.write_back(part, &event).await? {
                metrics::counter!("countersign_revocations_written_back_total", "level" => level.as_str())
                    .increment(rows);
                *written.entry(level).or_default() += rows;
            }
        }
        if written.is_empty() {
            // Another replica has written them, or they were announced while the rows were read.
            tracing::info!("the database was replaced; all revocations are loaded again, and none is missing any more");
            return Ok(());
        }
        let count = |level: Level| written.get(&level).copied().unwrap_or_default();
        tracing::error!(
            tokens = count(Level::Token),
            sessions = count(Level::Session),
            users = count(Level::User),
            clients = count(Level::Client),
            keys = count(Level::Key),
            everything = count(Level::Global),
            "the database was replaced and lacked revocations that this replica knows; it has written them back. Other changes of \
             the same time are lost too (users, passwords, clients, and that a key was revoked): run `countersign session \
             revoke-all --all` if in doubt, and `countersign key revoke` again for each such key"
        );
        Ok(())
    }
}

/// The revocations of `index` that concern an unexpired token at `now` and that `loaded` does not cover.
fn lost(index: &Index, loaded: &[Revocation], now: UnixMillis) -> Vec<Revocation> {
    let known = Index::new();
    for row in loaded {
        known.insert(row);
    }
    let mut cursor = SnapshotCursor::default();
    let mut lost = Vec::new();
    while !cursor.is_at_end() {
        let part = index.snapshot_part(&mut cursor).into_iter();
        // The index keeps a row for up to a minute longer than the database does.
        let needed = |row: &Revocation| retained_until(row) >= now.plus(ROUNDING);
        lost.extend(part.filter(|row| needed(row) && !known.covers(row)));
    }
    lost
}
