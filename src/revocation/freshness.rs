//! How fresh the index is.

use std::time::Duration;

use crate::clock::{Clock, ClockReading, UnixMillis};
use crate::store::{Cursor, DatabaseSide};

/// The last good reconciliation.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// Every revocation that was acknowledged before this moment of the store's clock is in the index.
    pub as_of: UnixMillis,
    /// How far the feed was read: the resume token of watchers.
    pub cursor: Cursor,
    /// The server that answered, if it tells its timeline.
    pub(super) side: Option<DatabaseSide>,
    /// When the reconciliation was *sent*.
    pub(super) sent: ClockReading,
    /// How far this machine's clock was ahead of the store's then, in milliseconds.
    pub(super) skew: i64,
}

impl Freshness {
    /// How old it is: the larger of its ages by the monotonic clock and by the wall clock. The monotonic clock of a suspended
    /// machine may stand still, and a wall clock that is set back would hide the age.
    #[must_use]
    pub fn age(&self, clock: &dyn Clock) -> Duration {
        self.age_at(clock.read())
    }

    /// Like [`Freshness::age`], at this moment of both clocks.
    pub(super) fn age_at(&self, now: ClockReading) -> Duration {
        now.since(self.sent)
    }

    /// How far this machine's clock was ahead of the store's, in milliseconds; negative if behind.
    #[must_use]
    pub const fn skew_millis(&self) -> i64 {
        self.skew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Still(i64, u64);

    impl Clock for Still {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.1)
        }
    }

    #[test]
    fn age_is_the_larger_of_both_clocks() {
        let fresh = Freshness {
            as_of: UnixMillis(0),
            cursor: Cursor(String::new()),
            side: None,
            sent: ClockReading {
                wall: UnixMillis(1_000),
                monotonic: Duration::from_millis(100),
            },
            skew: 0,
        };
        assert_eq!(
            fresh.age(&Still(1_500, 150)),
            Duration::from_millis(500),
            "suspended: the wall clock knows"
        );
        assert_eq!(
            fresh.age(&Still(0, 900)),
            Duration::from_millis(800),
            "set back: the monotonic clock knows"
        );
    }
}
