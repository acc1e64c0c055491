//! A clock that stands still.

use std::time::Duration;

use countersign::clock::{Clock, UnixMillis};

/// Shows this time for ever.
#[derive(Debug)]
pub(crate) struct StoppedClock(pub(crate) UnixMillis);

impl Clock for StoppedClock {
    fn now(&self) -> UnixMillis {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
