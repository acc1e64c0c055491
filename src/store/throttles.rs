//! Counters of failed attempts, shared by all replicas.
//!
//! An attempt is counted before its password is checked, and the charge is refunded if it succeeds: guesses made at
//! once are limited like guesses made in a row.

use std::time::Duration;

use async_trait::async_trait;

use crate::clock::millis;
use crate::model::Result;

/// `count` failures in `per`: the generic cell rate algorithm (ITU-T I.371) with a burst of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many failures are allowed.
    pub count: u32,
    /// In how long a time.
    pub per: Duration,
}

impl Rate {
    /// How long it takes until one failure no longer counts: at least a millisecond, the unit of the counters.
    #[must_use]
    pub fn interval(&self) -> Duration {
        (self.per / self.count.max(1)).max(Duration::from_millis(1))
    }
}

/// A rate, and what happens to failures that exceed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rate.
    pub rate: Rate,
    /// Whether each failure that uses the rate up again doubles the wait, up to [`MAX_WAIT`].
    pub doubling: bool,
}

/// The longest wait of a doubling limit.
pub const MAX_WAIT: Duration = Duration::from_mins(15);

/// The key of a counter: an HMAC of what is counted, so that the store does not reveal which account was attacked.
pub type CounterKey = [u8; 16];

/// Counters by key. They may be lost: all limits then start again from zero.
#[async_trait]
pub trait ThrottleStore: Send + Sync {
    /// How long until one more attempt is allowed; zero if now. Counts nothing.
    async fn wait_time(&self, counter: CounterKey, limit: Limit) -> Result<Duration>;

    /// Counts one attempt if the limit allows one now, in one atomic step. An attempt that is not allowed changes nothing:
    /// it does not lengthen the wait.
    async fn try_charge(&self, counter: CounterKey, limit: Limit) -> Result<LimitDecision>;

    /// Takes back what [`ThrottleStore::try_charge`] counted, because the attempt succeeded or was not checked.
    async fn refund(&self, counter: CounterKey, charge: Charge) -> Result<()>;

    /// Remembers a key for `ttl`, which is at least a millisecond.
    async fn remember(&self, key: CounterKey, ttl: Duration) -> Result<()>;

    /// Whether the key is remembered.
    async fn is_remembered(&self, key: CounterKey) -> Result<bool>;
}

/// Whether a limit allows one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// The attempt is allowed and counted.
    Allowed(Charge),
    /// The attempt is allowed after this wait; nothing was counted.
    Wait(Duration),
}

/// What one attempt added to a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Added to the theoretical arrival time, in milliseconds.
    pub millis: i64,
    /// Added to the failures over the limit.
    pub over_limit: u32,
}

/// The state of one counter. The Redis store computes the same steps in Lua (`gcra.lua`); conformance cases compare the
/// two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcraState {
    /// The theoretical arrival time of the algorithm, in milliseconds of the store's clock.
    pub arrival: i64,
    /// How many counted attempts in a row have used the rate up.
    pub over_limit: u32,
}

impl GcraState {
    /// How long until one more attempt is allowed, at `now` (milliseconds).
    #[must_use]
    pub fn wait_time(&self, limit: Limit, now: i64) -> Duration {
        let interval = millis(limit.rate.interval());
        let tolerance = millis(limit.rate.per) - interval;
        let early = self.arrival.saturating_sub(now).saturating_sub(tolerance);
        Duration::from_millis(u64::try_from(early).unwrap_or(0))
    }

    /// The state after one more failure at `now`.
    fn charged(self, limit: Limit, now: i64) -> Self {
        let interval = millis(limit.rate.interval());
        let tolerance = millis(limit.rate.per) - interval;
        let arrival = self.arrival.max(now).saturating_add(interval);
        let over = arrival.saturating_sub(now) > tolerance;
        if !(limit.doubling && over) {
            let over_limit = if over { self.over_limit } else { 0 };
            return Self { arrival, over_limit };
        }
        let wait = interval
            .saturating_mul(1 << self.over_limit.min(20))
            .min(millis(MAX_WAIT));
        Self {
            arrival: now.saturating_add(tolerance).saturating_add(wait),
            over_limit: self.over_limit.saturating_add(1),
        }
    }

    /// The state after an attempt asked for admission at `now`, and the decision.
    #[must_use]
    pub fn try_charged(self, limit: Limit, now: i64) -> (Self, LimitDecision) {
        let wait = self.wait_time(limit, now);
        if !wait.is_zero() {
            return (self, LimitDecision::Wait(wait));
        }
        let after = self.charged(limit, now);
        let charge = Charge {
            millis: after.arrival.saturating_sub(self.arrival.max(now)),
            over_limit: after.over_limit.saturating_sub(self.over_limit),
        };
        (after, LimitDecision::Allowed(charge))
    }

    /// The state without a charge that was counted before.
    #[must_use]
    pub fn refunded(self, charge: Charge) -> Self {
        Self {
            arrival: self.arrival.saturating_sub(charge.millis).max(0),
            over_limit: self.over_limit.saturating_sub(charge.over_limit),
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

    fn counted(state: GcraState, limit: Limit, now: i64) -> GcraState {
        let (after, decision) = state.try_charged(limit, now);
        assert!(matches!(decision, LimitDecision::Allowed(_)), "{decision:?}");
        after
    }

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let mut state = GcraState::default();
        for _ in 0..3 {
            assert_eq!(state.wait_time(PLAIN, 1_000), Duration::ZERO);
            state = counted(state, PLAIN, 1_000);
        }
        assert_eq!(state.wait_time(PLAIN, 1_000), Duration::from_secs(10));
        assert_eq!(state.wait_time(PLAIN, 11_000), Duration::ZERO);
    }

    #[test]
    fn a_refused_attempt_changes_nothing_so_that_a_lock_ends_by_itself() {
        for limit in [
            PLAIN,
            Limit {
                doubling: true,
                ..PLAIN
            },
        ] {
            let mut state = GcraState::default();
            for _ in 0..3 {
                state = counted(state, limit, 0);
            }
            // An attempt a second: the tenth second is the first at which one is allowed.
            for second in 0..10 {
                let (after, decision) = state.try_charged(limit, second * 1_000);
                let left = Duration::from_secs(10 - u64::try_from(second).unwrap());
                assert_eq!((after, decision), (state, LimitDecision::Wait(left)));
            }
            counted(state, limit, 10_000);
        }
    }

    #[test]
    fn a_rate_finer_than_a_millisecond_still_limits() {
        let rate = Rate {
            count: 100_000,
            per: Duration::from_secs(1),
        };
        let (mut state, limit) = (GcraState::default(), Limit { rate, doubling: false });
        for _ in 0..1_000 {
            state = counted(state, limit, 0);
        }
        assert_eq!(state.wait_time(limit, 0), Duration::from_millis(1));
    }

    #[test]
    fn a_refunded_charge_leaves_no_trace() {
        for limit in [
            PLAIN,
            Limit {
                doubling: true,
                ..PLAIN
            },
        ] {
            let mut state = GcraState::default();
            for before in 0..3 {
                let mut tried = state;
                let mut charges = Vec::new();
                for _ in before..3 {
                    let (after, decision) = tried.try_charged(limit, 1_000);
                    let LimitDecision::Allowed(charge) = decision else {
                        panic!("{before}: {decision:?}")
                    };
                    charges.push(charge);
                    tried = after;
                }
                let (same, refused) = tried.try_charged(limit, 1_000);
                assert_eq!((same, refused), (tried, LimitDecision::Wait(Duration::from_secs(10))));
                for charge in charges {
                    tried = tried.refunded(charge);
                }
                assert_eq!(tried.wait_time(limit, 1_000), state.wait_time(limit, 1_000));
                assert_eq!(
                    tried.try_charged(limit, 1_000),
                    state.try_charged(limit, 1_000),
                    "{before}"
                );
                state = counted(state, limit, 1_000);
            }
        }
    }

    #[test]
    fn a_doubling_limit_doubles_up_to_a_quarter_of_an_hour() {
        let limit = Limit {
            doubling: true,
            ..PLAIN
        };
        let (mut state, mut now) = (GcraState::default(), 0);
        for _ in 0..2 {
            state = counted(state, limit, now);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            // Each failure comes as soon as one is allowed again.
            state = counted(state, limit, now);
            let wait = state.wait_time(limit, now);
            waits.push(wait.as_secs());
            now += millis(wait);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(state.wait_time(limit, now), Duration::ZERO);
    }
}
