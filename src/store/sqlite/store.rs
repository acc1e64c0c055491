//! The durable store of an embedded deployment.

use std::time::Duration;

use super::Database;
use crate::clock::UnixMillis;

/// People, clients, keys, revocations and the audit trail in a data folder's database.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    pub(super) db: Database,
    opened: UnixMillis,
    opened_monotonic: Duration,
}

impl SqliteStore {
    /// The store in this database.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self {
            opened: db.clock().now(),
            opened_monotonic: db.clock().monotonic(),
            db,
        }
    }

    /// The earlier of what the wall clock says and what has passed since the start: a clock that leaps ahead for a
    /// moment must not make anything that is still needed look expired.
    pub(super) fn cautious_now(&self) -> UnixMillis {
        let clock = self.db.clock();
        let passed = clock.monotonic().saturating_sub(self.opened_monotonic);
        clock.now().min(self.opened.plus(passed))
    }
}
