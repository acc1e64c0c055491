//! Writing back what a replaced database lacks: a standby that was promoted before it had received every revocation, or a
//! restored backup. The index of a replica still knows those of the last 24 hours.

use std::collections::HashMap;
use std::time::Duration;

use super::feed::Feed;
use super::index::{Index, SnapshotCursor, retained_until};
use super::unrecorded::Unrecorded;
use crate::clock::UnixMillis;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Error, Level, Result, Revocation};
use crate::store::{Cursor, LOST_PART, RevocationStore};

/// The index keeps expiries in whole minutes, rounded up.
const ROUNDING: Duration = Duration::from_mins(1);

/// The pause after the first attempt that failed; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause. Nothing is answered from the new database meanwhile, so it is short.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A database that has replaced another one, and lacks revocations that the index has. They are determined once, when all rows
/// were read: from then on rows are only added to it, and adding one twice does nothing.
#[derive(Debug)]
pub(super) struct Replacement {
    /// How far it was read.
    pub(super) cursor: Cursor,
    /// What is still to be written.
    lost: Vec<Revocation>,
    written: HashMap<Level, u64>,
    /// The next attempt, by the monotonic clock; none before the first.
    retry: Option<Retry>,
}

#[derive(Debug)]
struct Retry {
    due: Duration,
    pause: Duration,
    cause: String,
}

impl Replacement {
    pub(super) fn new(lost: Vec<Revocation>, cursor: Cursor) -> Self {
        Self {
            cursor,
            lost,
            written: HashMap::new(),
            retry: None,
        }
    }
}

impl Feed {
    /// The revocations of the index that are not among `loaded`, the rows of a database that replaced another: those that were
    /// read from the database before, or recorded by this replica.
    pub(super) fn lost(&self, loaded: &[Revocation]) -> Vec<Revocation> {
        lost(self.index(), self.unrecorded(), loaded, self.capped_now())
    }

    /// Writes the lost revocations back, unless the pause after the last failure has not passed yet. Other replicas may do the same
    /// at once.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` as long as some are missing.
    pub(super) async fn write_back(&self, store: &dyn RevocationStore, replacement: &mut Replacement) -> Result<()> {
        let now = self.clock().monotonic();
        if let Some(retry) = replacement.retry.as_ref().filter(|retry| now < retry.due) {
            return Err(still_missing(&retry.cause));
        }
        if replacement.lost.is_empty() && replacement.written.is_empty() {
            tracing::info!("the database was replaced; all revocations are loaded again, and none is missing");
            return Ok(());
        }
        if let Err(error) = self.write_parts(store, replacement).await {
            let before = replacement.retry.as_ref();
            if before.is_none() {
                tracing::error!(
                    %error,
                    revocations = replacement.lost.len(),
                    "the database was replaced and lacks revocations that this replica knows, and they cannot be written back; \
                     nothing is answered from the new database, so tokens are validated only until revocation.max_staleness. The \
                     attempt is repeated: make the database writable"
                );
            }
            let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
            replacement.retry = Some(Retry {
                due: self.clock().monotonic().saturating_add(pause),
                pause,
                cause: error.to_string(),
            });
            return Err(still_missing(&error.to_string()));
        }
        report(&replacement.written);
        Ok(())
    }

    async fn write_parts(&self, store: &dyn RevocationStore, replacement: &mut Replacement) -> Result<()> {
        let Replacement { lost, written, .. } = replacement;
        while !lost.is_empty() {
            let part = &lost[..lost.len().min(LOST_PART)];
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
            lost.drain(..lost.len().min(LOST_PART));
        }
        Ok(())
    }
}

/// The failure has a line of its own.
fn still_missing(cause: &str) -> Error {
    let error = Error::store_unavailable(format!(
        "the database was replaced, and the revocations that it lacks cannot be written back: {cause}"
    ));
    error.already_logged()
}

fn report(written: &HashMap<Level, u64>) {
    if written.is_empty() {
        // Another replica has written them, or they were announced while the rows were read.
        tracing::info!("the database was replaced; all revocations are loaded again, and none is missing any more");
        return;
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
}

/// The recorded revocations of `index` that concern an unexpired token at `now` and that `loaded` does not cover.
fn lost(index: &Index, unrecorded: &Unrecorded, loaded: &[Revocation], now: UnixMillis) -> Vec<Revocation> {
    let known = Index::new();
    for row in loaded {
        known.insert(row);
    }
    // The index keeps a row for up to a minute longer than the database does.
    let is_lost = |row: &Revocation| retained_until(row) >= now.plus(ROUNDING) && !known.covers(row);
    let mut cursor = SnapshotCursor::default();
    let mut lost = Vec::new();
    while !cursor.is_at_end() {
        let part = index.snapshot_part(&mut cursor).into_iter();
        lost.extend(part.filter(|row| is_lost(row) && !unrecorded.contains(&row.target)));
    }
    lost.extend(unrecorded.recorded().into_iter().filter(is_lost));
    lost
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{Target, UserId};

    #[test]
    fn what_was_only_announced_is_not_written_back() {
        let now = UnixMillis::from_secs(1_800_000_000);
        let of_user = |user: u128, epoch: i64| Revocation {
            target: Target::User {
                id: UserId(Uuid::from_u128(user)),
                keep: None,
            },
            epoch,
            expires: now.plus(Duration::from_hours(1)),
            revoked: now,
        };
        let (index, unrecorded) = (Index::new(), Unrecorded::default());
        for recorded in [of_user(1, 5), of_user(2, 5)] {
            unrecorded.record(&recorded);
            index.insert(&recorded);
        }
        for announced in [of_user(2, 7), of_user(3, 7)] {
            unrecorded.announce(&announced, index.entry_of(&announced.target));
            index.insert(&announced);
        }
        let mut epochs: Vec<(String, i64)> = lost(&index, &unrecorded, &[], now)
            .iter()
            .map(|row| (row.target.id(), row.epoch))
            .collect();
        epochs.sort_unstable();
        let [one, two] = [of_user(1, 5), of_user(2, 5)].map(|row| (row.target.id(), 5));
        assert_eq!(epochs, [one, two], "the recorded part of each entry");
        unrecorded.record(&of_user(2, 7));
        let lost = lost(&index, &unrecorded, &[of_user(1, 5)], now);
        assert_eq!(lost.iter().map(|row| row.epoch).collect::<Vec<_>>(), [7]);
    }
}
