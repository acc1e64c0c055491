//! Counters of failed attempts, shared by all replicas.
//!
//! An attempt is counted before it is looked at and taken back if it was a good one: so many guesses at once are no more
//! than so many in a row.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::Result;

/// So many failures in so long a time: the generic cell rate algorithm (ITU-T I.371) with a burst of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// How long one failure takes to be forgotten.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// One limit: how much of it, and what a failure past it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rate.
    pub rate: Rate,
    /// Whether each failure past the rate doubles the wait, up to [`LONGEST_WAIT`].
    pub doubling: bool,
}

/// The longest wait of a doubling limit.
pub const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// Counters by name. A name is an HMAC of what is counted: what stands in the store tells nobody who was attacked.
///
/// Losing the counters is not losing anything that was promised: they start again.
#[async_trait]
pub trait ThrottleStore: Send + Sync {
    /// How long until one more attempt may be made; zero if now. Counts nothing.
    async fn wait(&self, name: [u8; 16], limit: Limit) -> Result<Duration>;

    /// Counts one attempt if one may be made now, in one atomic step.
    async fn take(&self, name: [u8; 16], limit: Limit) -> Result<Take>;

    /// Takes back what [`ThrottleStore::take`] counted: the attempt was a good one, or was never looked at.
    async fn refund(&self, name: [u8; 16], charge: Charge) -> Result<()>;

    /// Counts one failure whatever was counted before, in one atomic step.
    async fn charge(&self, name: [u8; 16], limit: Limit) -> Result<()>;

    /// Remembers a name for so long.
    async fn remember(&self, name: [u8; 16], keep: Duration) -> Result<()>;

    /// Whether the name is remembered.
    async fn remembers(&self, name: [u8; 16]) -> Result<bool>;
}

/// What became of a wish to make an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It may be made, and is counted.
    Taken(Charge),
    /// Not before so long; nothing is counted.
    Wait(Duration),
}

/// What one attempt added to a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// To the theoretical arrival time, in milliseconds.
    pub millis: i64,
    /// To the strikes.
    pub strikes: u32,
}

/// What is known of one name: the state of the algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The theoretical arrival time, in milliseconds of the store's clock.
    pub arrival: i64,
    /// How many failures came past the rate without a pause.
    pub strikes: u32,
}

impl Cell {
    /// How long until one more attempt may be made at `now` (milliseconds).
    #[must_use]
    pub fn wait(&self, limit: Limit, now: i64) -> Duration {
        let interval = crate::clock::millis(limit.rate.interval());
        let tolerance = crate::clock::millis(limit.rate.per) - interval;
        let early = self.arrival.saturating_sub(now).saturating_sub(tolerance);
        Duration::from_millis(u64::try_from(early).unwrap_or(0))
    }

    /// The cell after one failure at `now`. The Lua script of the Redis store does the same.
    #[must_use]
    pub fn charged(self, limit: Limit, now: i64) -> Self {
        let interval = crate::clock::millis(limit.rate.interval());
        let tolerance = crate::clock::millis(limit.rate.per) - interval;
        let arrival = self.arrival.max(now).saturating_add(interval);
        let over = arrival.saturating_sub(now) > tolerance;
        if !(limit.doubling && over) {
            let strikes = if over { self.strikes } else { 0 };
            return Self {
                arrival: arrival.min(now.saturating_add(tolerance).saturating_add(interval)),
                strikes,
            };
        }
        let wait = interval
            .saturating_mul(1 << self.strikes.min(20))
            .min(crate::clock::millis(LONGEST_WAIT));
        Self {
            arrival: now.saturating_add(tolerance).saturating_add(wait),
            strikes: self.strikes.saturating_add(1),
        }
    }

    /// The cell after a wish to make an attempt at `now`, and what became of it. The Lua script does the same.
    #[must_use]
    pub fn taken(self, limit: Limit, now: i64) -> (Self, Take) {
        let wait = self.wait(limit, now);
        if !wait.is_zero() {
            return (self, Take::Wait(wait));
        }
        let after = self.charged(limit, now);
        let charge = Charge {
            millis: after.arrival.saturating_sub(self.arrival.max(now)),
            strikes: after.strikes.saturating_sub(self.strikes),
        };
        (after, Take::Taken(charge))
    }

    /// The cell without that attempt. The Lua script does the same.
    #[must_use]
    pub fn refunded(self, charge: Charge) -> Self {
        Self {
            arrival: self.arrival.saturating_sub(charge.millis).max(0),
            strikes: self.strikes.saturating_sub(charge.strikes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Limit = Limit {
        rate: Rate {
            count: 3,
            per: Duration::from_secs(30),
        },
        doubling: false,
    };

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let mut cell = Cell::default();
        for _ in 0..3 {
            assert_eq!(cell.wait(PLAIN, 1_000), Duration::ZERO);
            cell = cell.charged(PLAIN, 1_000);
        }
        assert_eq!(cell.wait(PLAIN, 1_000), Duration::from_secs(10));
        assert_eq!(cell.wait(PLAIN, 11_000), Duration::ZERO);
        // Hammering does not lengthen a plain limit's wait.
        for _ in 0..100 {
            cell = cell.charged(PLAIN, 1_000);
        }
        assert_eq!(cell.wait(PLAIN, 1_000), Duration::from_secs(10));
    }

    #[test]
    fn what_is_taken_and_refunded_leaves_no_trace() {
        for limit in [
            PLAIN,
            Limit {
                doubling: true,
                ..PLAIN
            },
        ] {
            let mut cell = Cell::default();
            for before in 0..3 {
                let mut tried = cell;
                let mut charges = Vec::new();
                for _ in before..3 {
                    let (after, take) = tried.taken(limit, 1_000);
                    let Take::Taken(charge) = take else {
                        panic!("{before}: {take:?}")
                    };
                    charges.push(charge);
                    tried = after;
                }
                let (same, refused) = tried.taken(limit, 1_000);
                assert_eq!((same, refused), (tried, Take::Wait(Duration::from_secs(10))));
                for charge in charges {
                    tried = tried.refunded(charge);
                }
                assert_eq!(tried.wait(limit, 1_000), cell.wait(limit, 1_000));
                assert_eq!(tried.charged(limit, 1_000), cell.charged(limit, 1_000), "{before}");
                cell = cell.charged(limit, 1_000);
            }
        }
    }

    #[test]
    fn a_doubling_limit_doubles_up_to_a_quarter_of_an_hour() {
        let limit = Limit {
            doubling: true,
            ..PLAIN
        };
        let mut cell = Cell::default();
        for _ in 0..2 {
            cell = cell.charged(limit, 0);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            cell = cell.charged(limit, 0);
            waits.push(cell.wait(limit, 0).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(cell.wait(limit, 900_000), Duration::ZERO);
    }
}
