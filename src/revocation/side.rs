//! Two primaries: a replica that is connected to a server which another one has replaced notices it by the servers that the
//! other replicas publish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{Error, Result};
use crate::store::DatabaseSide;

/// For how long the last known servers count while Redis does not tell those of now. Sessions are in Redis, so meanwhile a replica
/// can only validate and revoke. After this time the later server may be gone as well, and an answer is worth more than none.
const MAX_AGE: Duration = Duration::from_mins(10);

/// This replica's server beside those of the live replicas.
#[derive(Debug, Default)]
pub(super) struct SideComparison {
    /// The latest server of the live replicas, and when it was last read, by the monotonic clock.
    latest: Mutex<Option<(DatabaseSide, Duration)>>,
    is_superseded: AtomicBool,
}

impl SideComparison {
    /// Whether another replica's server has replaced this one's.
    pub(super) fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::Acquire)
    }

    /// `STORE_UNAVAILABLE` if another replica's server has replaced this one's.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_superseded() {
            return Err(Error::store_unavailable(
                "this replica is connected to a database server that a promoted standby has replaced",
            ));
        }
        Ok(())
    }

    /// Notes the servers of the live replicas at `now` of the monotonic clock, then compares `own` with them.
    pub(super) fn note(&self, own: DatabaseSide, published: &[DatabaseSide], now: Duration) {
        let of_system = published.iter().filter(|side| side.system == own.system);
        let latest = of_system.max_by_key(|side| side.timeline);
        *self.latest.lock() = latest.map(|side| (*side, now));
        self.compare(Some(own), now);
    }

    /// Compares `own` with the last known servers of the live replicas. A server that does not tell its timeline cannot be
    /// compared.
    pub(super) fn compare(&self, own: Option<DatabaseSide>, now: Duration) {
        let latest = (*self.latest.lock())
            .filter(|(_, read)| now.saturating_sub(*read) <= MAX_AGE)
            .map(|(side, _)| side);
        let later = own
            .zip(latest)
            .filter(|(own, latest)| own.system == latest.system && own.timeline < latest.timeline);
        let was_superseded = self.is_superseded.swap(later.is_some(), Ordering::AcqRel);
        metrics::gauge!("countersign_database_superseded").set(if later.is_some() { 1.0 } else { 0.0 });
        match later {
            Some((own, latest)) if !was_superseded => tracing::error!(
                system_identifier = own.system,
                timeline = own.timeline,
                next_transaction = own.next_transaction,
                later_timeline = latest.timeline,
                later_next_transaction = latest.next_transaction,
                "two primaries: this replica is connected to a database server that a promoted standby has replaced; it \
                 answers UNAVAILABLE and connects again until it reaches the later server. Stop the earlier server, and let \
                 storage.database_url lead to the later one"
            ),
            None if was_superseded => {
                tracing::info!(
                    "this replica is no longer connected to a database server that was replaced, as far as the other replicas tell"
                );
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(system: u64, timeline: u32) -> DatabaseSide {
        DatabaseSide {
            system,
            timeline,
            next_transaction: 1_000,
        }
    }

    #[test]
    fn only_a_later_timeline_of_the_same_system_supersedes() {
        let comparison = SideComparison::default();
        let now = Duration::from_secs(1);
        comparison.note(side(7, 1), &[side(7, 1), side(8, 5)], now);
        assert!(comparison.check().is_ok(), "a server of another deployment");
        comparison.note(side(7, 1), &[side(7, 1), side(7, 2)], now);
        assert!(comparison.check().is_err());
        comparison.compare(Some(side(7, 2)), now);
        assert!(comparison.check().is_ok(), "it has reached the later server");
        comparison.compare(Some(side(7, 1)), now);
        assert!(comparison.check().is_err());
        comparison.note(side(7, 1), &[side(7, 1)], now);
        assert!(comparison.check().is_ok(), "no live replica is on the later server");
    }

    #[test]
    fn what_is_known_of_the_others_counts_for_ten_minutes() {
        let comparison = SideComparison::default();
        let minutes = Duration::from_mins;
        comparison.note(side(7, 1), &[side(7, 2)], minutes(1));
        // Redis is away.
        comparison.compare(Some(side(7, 1)), minutes(11));
        assert!(comparison.check().is_err());
        comparison.compare(Some(side(7, 1)), minutes(12));
        assert!(comparison.check().is_ok());
        comparison.note(side(7, 1), &[side(7, 2)], minutes(13));
        assert!(comparison.check().is_err(), "Redis is back");
    }
}
