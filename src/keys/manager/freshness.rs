//! When the store was last asked.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, UnixMillis};

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    wall: UnixMillis,
    monotonic: Duration,
}

impl Moment {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        }
    }

    /// This moment as far as both clocks agree that it has come since `started`.
    pub(super) fn after(self, started: Self) -> UnixMillis {
        let passed = self.monotonic.saturating_sub(started.monotonic);
        self.wall.min(started.wall.plus(passed))
    }
}

/// The moment at which the last answer of the store was asked for.
pub(super) struct Freshness(Mutex<Moment>);

impl Freshness {
    pub(super) const fn new(asked: Moment) -> Self {
        Self(Mutex::new(asked))
    }

    pub(super) fn set(&self, asked: Moment) {
        *self.0.lock() = asked;
    }

    /// When the answer was asked for, by the wall clock.
    pub(super) fn wall(&self) -> UnixMillis {
        self.0.lock().wall
    }

    /// How old the answer is: by the wall clock or the monotonic one, whichever says more. One stands still in a suspended
    /// machine, the other can be set back.
    pub(super) fn age(&self, now: Moment) -> Duration {
        let asked = *self.0.lock();
        now.wall
            .since(asked.wall)
            .max(now.monotonic.saturating_sub(asked.monotonic))
    }
}
