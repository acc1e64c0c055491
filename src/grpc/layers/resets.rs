//! Detection of rapid reset (CVE-2023-44487): a peer that opens streams and resets them at once gets around the limit on
//! concurrent streams, because a stream that was reset does not count.
//!
//! A call that its caller gives up at its deadline looks the same, except that it has lived for a while. No caller can set a
//! deadline that is shorter than [`MIN_LIFE`], so older calls are not counted. Younger ones are seen when this process was too
//! slow to read the call before its reset came; that is rare enough for the allowance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::deadline::RESPONSE_MARGIN;

/// A call that is reset before this age counts.
const MIN_LIFE: Duration = RESPONSE_MARGIN;

/// How many such calls a connection may have at once.
const ALLOWANCE: f64 = 10_000.0;

/// How many more it may have in each second: those of a hundred streams with deadlines of 100 ms.
const ALLOWANCE_PER_SECOND: f64 = 1000.0;

/// Counts the calls of one connection that were reset soon after they began.
#[derive(Debug)]
pub(crate) struct Resets {
    counted: Mutex<(f64, Instant)>,
    exceeded: AtomicBool,
}

impl Default for Resets {
    fn default() -> Self {
        Self {
            counted: Mutex::new((0.0, Instant::now())),
            exceeded: AtomicBool::new(false),
        }
    }
}

impl Resets {
    /// Counts a call that its caller has given up.
    pub(super) fn count(&self, began: Instant) {
        let now = Instant::now();
        if now.saturating_duration_since(began) >= MIN_LIFE {
            return;
        }
        let mut counted = self.counted.lock();
        let (count, at) = *counted;
        let forgiven = now.saturating_duration_since(at).as_secs_f64() * ALLOWANCE_PER_SECOND;
        let count = (count - forgiven).max(0.0) + 1.0;
        *counted = (count, now);
        if count > ALLOWANCE {
            self.exceeded.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the peer has reset too many calls too soon. The connection's task looks whenever it is polled, which the next
    /// frame of the peer causes.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_early_resets_is_noticed_and_late_ones_are_not() {
        let resets = Resets::default();
        let exceeded = || resets.exceeded();
        for _ in 0..20_000 {
            resets.count(Instant::now() - MIN_LIFE);
        }
        assert!(!exceeded(), "late");
        for _ in 0..10_000 {
            resets.count(Instant::now());
        }
        assert!(!exceeded(), "within the allowance");
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..1000 {
            resets.count(Instant::now());
        }
        assert!(!exceeded(), "within the rate");
        resets.count(Instant::now());
        assert!(exceeded());
    }
}
