//! The time that is written into rows.

use std::sync::Arc;

use crate::clock::{Clock, ClockReading, UnixMillis};

/// The clock, and the time at which the database was opened.
#[derive(Clone, Debug)]
pub(super) struct StoreTime {
    clock: Arc<dyn Clock>,
    opened: ClockReading,
}

impl StoreTime {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            opened: clock.read(),
            clock,
        }
    }

    /// The clock itself.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The clock's time, but never before `newest`, the time of the newest row.
    pub(super) fn after(&self, newest: UnixMillis) -> UnixMillis {
        self.clock.now().max(newest)
    }

    /// The earlier of the wall clock and the time of opening plus the time that has passed since. If the wall clock
    /// leaps ahead for a moment, rows that are still needed must not look expired, and later rows must not stay at that
    /// time.
    pub(super) fn capped(&self) -> UnixMillis {
        self.clock.read().capped_wall(self.opened)
    }
}
