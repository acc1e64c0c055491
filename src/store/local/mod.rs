//! Counters in the memory of one process: all that an embedded deployment needs, and what a replica falls back on while
//! the shared ones cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::throttles::{Cell, Charge, Limit, Take, ThrottleStore};
use crate::clock::{Clock, millis};
use crate::model::Result;

/// How many names are kept: past that the least used are forgotten, so that no attacker can fill the memory.
const NAMES: usize = 100_000;

/// Counters in memory, bounded.
pub struct LocalThrottles {
    cells: Mutex<()>,
    counted: Cache<[u8; 16], Cell>,
    remembered: Cache<[u8; 16], i64>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for LocalThrottles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalThrottles")
            .field("names", &self.counted.len())
            .finish_non_exhaustive()
    }
}

impl LocalThrottles {
    /// Counters that have counted nothing.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            cells: Mutex::new(()),
            counted: Cache::new(NAMES),
            remembered: Cache::new(NAMES),
            clock,
        }
    }

    fn now(&self) -> i64 {
        millis(self.clock.monotonic())
    }

    fn change<T>(&self, name: [u8; 16], step: impl FnOnce(Cell) -> (Cell, T)) -> T {
        // Attempts cost a hash each: one lock for all names is enough.
        let _one_at_a_time = self.cells.lock();
        let (cell, answer) = step(self.counted.get(&name).unwrap_or_default());
        self.counted.insert(name, cell);
        answer
    }
}

#[async_trait]
impl ThrottleStore for LocalThrottles {
    async fn wait(&self, name: [u8; 16], limit: Limit) -> Result<Duration> {
        Ok(self.counted.get(&name).unwrap_or_default().wait(limit, self.now()))
    }

    async fn take(&self, name: [u8; 16], limit: Limit) -> Result<Take> {
        let now = self.now();
        Ok(self.change(name, |cell| cell.taken(limit, now)))
    }

    async fn refund(&self, name: [u8; 16], charge: Charge) -> Result<()> {
        self.change(name, |cell| (cell.refunded(charge), ()));
        Ok(())
    }

    async fn charge(&self, name: [u8; 16], limit: Limit) -> Result<()> {
        let now = self.now();
        self.change(name, |cell| (cell.charged(limit, now), ()));
        Ok(())
    }

    async fn remember(&self, name: [u8; 16], keep: Duration) -> Result<()> {
        self.remembered.insert(name, self.now().saturating_add(millis(keep)));
        Ok(())
    }

    async fn remembers(&self, name: [u8; 16]) -> Result<bool> {
        Ok(self.remembered.get(&name).is_some_and(|until| until > self.now()))
    }
}
