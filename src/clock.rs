//! Time: the unit of stored times, and the wall and monotonic clocks.
//!
//! Below `app`, code does not read the time of the operating system. It reads a [`Clock`], so that a test can set the time.

use std::time::Duration;

/// A time in milliseconds since the Unix epoch, UTC. Every stored time has this unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The time `secs` seconds after the Unix epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time minus `duration`; saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The duration from `earlier` to this time; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// `duration` in whole milliseconds; saturates.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A source of time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock. It may step in either direction.
    fn now(&self) -> UnixMillis;

    /// The time since some fixed point of this process. It never steps back, but may stand still while the machine is
    /// suspended.
    fn monotonic(&self) -> Duration;

    /// Reads both clocks.
    fn read(&self) -> ClockReading {
        ClockReading {
            wall: self.now(),
            monotonic: self.monotonic(),
        }
    }

    /// The reading whose wall clock the caller has read already: the hot path reads each clock once.
    fn reading_at(&self, wall: UnixMillis) -> ClockReading {
        ClockReading {
            wall,
            monotonic: self.monotonic(),
        }
    }
}

/// What both clocks showed at one moment, for spans that neither clock measures reliably: the monotonic one may stand
/// still while the machine is suspended, and the wall clock may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock.
    pub wall: UnixMillis,
    /// The monotonic clock.
    pub monotonic: Duration,
}

impl ClockReading {
    /// The time since `earlier`, by the clock that shows more of it: for ages, where too young an answer is the harmful one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.wall.since(earlier.wall).max(self.monotonic_since(earlier))
    }

    /// The wall clock's time, but no later than `start` plus the monotonic time that has passed since: for decisions to
    /// expire or remove something, where a wall clock that leaps ahead would do harm.
    #[must_use]
    pub fn capped_wall(self, start: Self) -> UnixMillis {
        self.wall.min(start.wall.plus(self.monotonic_since(start)))
    }

    fn monotonic_since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }
}

/// Until when a caller waits. It counts the time that this process stands still, by the clock that shows more of it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    noted: ClockReading,
    left: Duration,
}

impl Deadline {
    /// A deadline `left` after `now`.
    #[must_use]
    pub const fn after(now: ClockReading, left: Duration) -> Self {
        Self { noted: now, left }
    }

    /// The time that is left at `now`; zero if the deadline has passed.
    #[must_use]
    pub fn left_at(self, now: ClockReading) -> Duration {
        self.left.saturating_sub(now.since(self.noted))
    }
}

/// The wall and monotonic clock of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> UnixMillis {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => UnixMillis(millis(after)),
            // A clock before 1970 is wrong, but must not end the process.
            Err(before) => UnixMillis(-millis(before.duration())),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate_instead_of_wrapping() {
        assert_eq!(UnixMillis(i64::MAX).plus(Duration::MAX), UnixMillis(i64::MAX));
        assert_eq!(UnixMillis(i64::MIN).minus(Duration::MAX), UnixMillis(i64::MIN));
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
        assert_eq!(UnixMillis(-1).secs(), -1);
    }

    fn reading(wall: i64, monotonic: u64) -> ClockReading {
        ClockReading {
            wall: UnixMillis(wall),
            monotonic: Duration::from_millis(monotonic),
        }
    }

    #[test]
    fn an_age_is_the_larger_one_of_both_clocks() {
        let earlier = reading(1_000, 100);
        let suspended = reading(1_500, 150);
        assert_eq!(suspended.since(earlier), Duration::from_millis(500));
        let set_back = reading(0, 900);
        assert_eq!(set_back.since(earlier), Duration::from_millis(800));
    }

    #[test]
    fn a_deadline_passes_while_the_machine_is_suspended() {
        let deadline = Deadline::after(reading(1_000, 100), Duration::from_millis(300));
        assert_eq!(deadline.left_at(reading(1_200, 300)), Duration::from_millis(100));
        assert_eq!(
            deadline.left_at(reading(9_000, 110)),
            Duration::ZERO,
            "the wall clock knows"
        );
        assert_eq!(
            deadline.left_at(reading(0, 900)),
            Duration::ZERO,
            "the monotonic clock knows"
        );
    }

    #[test]
    fn a_wall_clock_that_leaps_ahead_counts_for_the_elapsed_time_only() {
        let start = reading(1_000, 100);
        let leapt = reading(90_000, 400);
        assert_eq!(leapt.capped_wall(start), UnixMillis(1_300));
        let set_back = reading(500, 400);
        assert_eq!(set_back.capped_wall(start), UnixMillis(500));
    }
}
