//! Peers that ask and do not take the answer.
//!
//! HTTP/2 lets a peer close its window and leave finished answers with us for as long as its connection lives. The
//! connection counts its untaken answers by the tick in which they were made; one that is still there some ticks later
//! ends the connection. Two atomic additions a call, and no clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The length of a tick.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_secs(5);

/// An answer may wait for at least `TICKS - 1` ticks and at most `TICKS`.
const TICKS: usize = 4;

/// The untaken answers of one connection.
#[derive(Debug, Default)]
pub(crate) struct UnreadResponses {
    now: AtomicU32,
    made: [AtomicU32; TICKS],
}

/// One untaken answer; taken, or given up, when dropped.
#[derive(Debug)]
pub(crate) struct UnreadResponse {
    of: Arc<UnreadResponses>,
    slot: usize,
}

impl UnreadResponses {
    /// Counts an answer from now on.
    pub(crate) fn add(self: &Arc<Self>) -> UnreadResponse {
        let slot = self.now.load(Ordering::Relaxed) as usize % TICKS;
        self.made[slot].fetch_add(1, Ordering::Relaxed);
        UnreadResponse {
            of: Arc::clone(self),
            slot,
        }
    }

    /// Moves one tick on; whether an answer has waited too long.
    pub(crate) fn tick(&self) -> bool {
        let next = self.now.load(Ordering::Relaxed).wrapping_add(1);
        let overdue = self.made[next as usize % TICKS].load(Ordering::Relaxed) > 0;
        self.now.store(next, Ordering::Relaxed);
        overdue
    }
}

impl Drop for UnreadResponse {
    fn drop(&mut self) {
        self.of.made[self.slot].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_takes_is_noticed() {
        let unread = Arc::new(UnreadResponses::default());
        let waiting = unread.add();
        for _ in 1..TICKS {
            drop(unread.add());
            assert!(!unread.tick());
        }
        assert!(unread.tick());
        drop(waiting);
        for _ in 0..2 * TICKS {
            assert!(!unread.tick());
        }
    }
}
