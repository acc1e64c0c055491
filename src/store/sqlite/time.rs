//! What time it is for the rows of a database.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, UnixMillis};

/// The clock, and when the database was opened.
#[derive(Clone, Debug)]
pub(super) struct StoreTime {
    clock: Arc<dyn Clock>,
    opened: UnixMillis,
    opened_monotonic: Duration,
}

impl StoreTime {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            opened: clock.now(),
            opened_monotonic: clock.monotonic(),
            clock,
        }
    }

    /// The clock itself.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The clock's time, but never before `newest`, that of the newest row.
    pub(super) fn after(&self, newest: UnixMillis) -> UnixMillis {
        self.clock.now().max(newest)
    }

    /// The earlier of what the wall clock says and what has passed since the start: a clock that leaps ahead for a
    /// moment must neither make anything look expired that is still needed, nor hold the rows' time there for ever.
    pub(super) fn cautious(&self) -> UnixMillis {
        let passed = self.clock.monotonic().saturating_sub(self.opened_monotonic);
        self.clock.now().min(self.opened.plus(passed))
    }
}
