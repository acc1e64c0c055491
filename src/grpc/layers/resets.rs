//! Detection of rapid reset (CVE-2023-44487): a peer that opens streams and resets them at once gets around the limit on
//! concurrent streams, because a stream that was reset does not count.
//!
//! A call that its caller gives up at its deadline is no sign of that, so only calls count that are reset before their
//! deadline. After a stall of this process, calls and their resets arrive together and count although the callers were in no
//! hurry; the allowance is large enough for that.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many calls of a connection may be reset early at once.
const ALLOWANCE: f64 = 10_000.0;

/// How many more in each second.
const ALLOWANCE_PER_SECOND: f64 = 1000.0;

/// Counts the calls of one connection that were reset before their deadline.
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
    pub(super) fn count(&self, deadline: Option<Instant>) {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
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

    /// Whether the peer has reset too many calls early. The connection's task looks whenever it is polled, which the next
    /// frame of the peer causes.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_early_resets_is_noticed_and_those_at_the_deadline_are_not() {
        let resets = Resets::default();
        for _ in 0..20_000 {
            resets.count(Some(Instant::now()));
        }
        assert!(!resets.exceeded(), "at the deadline");
        for _ in 0..10_000 {
            resets.count(None);
        }
        assert!(!resets.exceeded(), "within the allowance");
        tokio::time::advance(Duration::from_secs(1)).await;
        let later = Instant::now() + Duration::from_secs(5);
        for _ in 0..1000 {
            resets.count(Some(later));
        }
        assert!(!resets.exceeded(), "within the rate");
        resets.count(Some(later));
        assert!(resets.exceeded());
    }
}
