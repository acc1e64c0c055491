//! Counters in the memory of one process: for embedded deployments, and for a replica while the shared counters cannot
//! be reached.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::throttles::{Charge, CounterKey, GcraState, Limit, LimitDecision, ThrottleStore};
use crate::clock::{Clock, millis};
use crate::model::Result;

/// How many keys are kept. Beyond that the least used are forgotten, so that an attacker cannot fill the memory.
const MAX_KEYS: usize = 100_000;

/// A bounded number of counters in memory.
pub struct LocalThrottles {
    update: Mutex<()>,
    counters: Cache<CounterKey, GcraState>,
    /// Until when each key is remembered.
    remembered: Cache<CounterKey, i64>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for LocalThrottles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalThrottles")
            .field("counters", &self.counters.len())
            .finish_non_exhaustive()
    }
}

impl LocalThrottles {
    /// Counters that have counted nothing. Only the monotonic time of `clock` is used.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            update: Mutex::new(()),
            counters: Cache::new(MAX_KEYS),
            remembered: Cache::new(MAX_KEYS),
            clock,
        }
    }

    fn now(&self) -> i64 {
        millis(self.clock.monotonic())
    }

    fn update<T>(&self, counter: CounterKey, step: impl FnOnce(GcraState) -> (GcraState, T)) -> T {
        // One lock for all counters is enough: a step takes well under a microsecond.
        let _guard = self.update.lock();
        let (state, result) = step(self.counters.get(&counter).unwrap_or_default());
        self.counters.insert(counter, state);
        result
    }
}

#[async_trait]
impl ThrottleStore for LocalThrottles {
    async fn wait_time(&self, counter: CounterKey, limit: Limit) -> Result<Duration> {
        let state = self.counters.get(&counter).unwrap_or_default();
        Ok(state.wait_time(limit, self.now()))
    }

    async fn try_charge(&self, counter: CounterKey, limit: Limit) -> Result<LimitDecision> {
        let now = self.now();
        Ok(self.update(counter, |state| state.try_charged(limit, now)))
    }

    async fn refund(&self, counter: CounterKey, charge: Charge) -> Result<()> {
        self.update(counter, |state| (state.refunded(charge), ()));
        Ok(())
    }

    async fn remember(&self, key: CounterKey, ttl: Duration) -> Result<()> {
        self.remembered.insert(key, self.now().saturating_add(millis(ttl)));
        Ok(())
    }

    async fn is_remembered(&self, key: CounterKey) -> Result<bool> {
        Ok(self.remembered.get(&key).is_some_and(|until| until > self.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::throttles::Rate;

    #[tokio::test]
    async fn rotating_keys_fill_no_memory_and_displace_no_counter_in_use() {
        let store = LocalThrottles::new(Arc::new(SystemClock::new()));
        let limit = Limit {
            rate: Rate {
                count: 10,
                per: Duration::from_hours(24),
            },
            doubling: false,
        };
        let key = |n: usize| {
            let mut key = [0; 16];
            key[8..].copy_from_slice(&n.to_be_bytes());
            key
        };
        let attacked = key(0);
        let mut counted = 0;
        for n in 1..=3 * MAX_KEYS {
            store.try_charge(key(n), limit).await.unwrap();
            store.remember(key(n), Duration::from_hours(1)).await.unwrap();
            if n % 1_000 == 0 {
                let decision = store.try_charge(attacked, limit).await.unwrap();
                counted += usize::from(matches!(decision, LimitDecision::Allowed(_)));
            }
        }
        assert!(store.counters.len() <= MAX_KEYS && store.remembered.len() <= MAX_KEYS);
        assert_eq!(counted, 10, "300 attempts at one account among 300,000 at others");
    }
}
