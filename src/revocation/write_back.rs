//! Writing back what a replaced database lacks: a standby that was promoted before it had received every revocation, or a
//! restored backup. The index of a replica still knows those of the last 24 hours.

use super::feed::Feed;
use super::index::{Index, SnapshotCursor, retained_until};
use crate::clock::UnixMillis;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Level, Result, Revocation};
use crate::store::{LOST_PART, RevocationStore};

impl Feed {
    /// Writes the revocations of the index back that are not among `loaded`, the rows of a database that replaced another.
    /// Other replicas may do the same at once.
    pub(super) async fn write_back(&self, store: &dyn RevocationStore, loaded: &[Revocation]) -> Result<()> {
        let lost = lost(self.index(), loaded, self.capped_now());
        if lost.is_empty() {
            tracing::info!("the database was replaced; all revocations are loaded again, and none is missing");
            return Ok(());
        }
        let count = |level: Level| lost.iter().filter(|row| row.target.level() == level).count();
        tracing::error!(
            tokens = count(Level::Token),
            sessions = count(Level::Session),
            users = count(Level::User),
            clients = count(Level::Client),
            keys = count(Level::Key),
            everything = count(Level::Global),
            "the database was replaced and lacks revocations that this replica knows; they are written back. Other changes of \
             the same time are lost too (users, passwords, clients, keys): run `countersign session revoke-all --all` if in doubt"
        );
        let mut written = 0;
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
                written += rows;
            }
        }
        tracing::info!(
            written,
            "the missing revocations are in the database; other replicas wrote those that this one did not"
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
        lost.extend(part.filter(|row| retained_until(row) >= now && !known.covers(row)));
    }
    lost
}
