//! Detection of peers that send requests and do not read the responses.
//!
//! HTTP/2 lets a peer close its flow-control window and leave finished responses in our memory for as long as its
//! connection lives. Each connection counts its unread responses by the tick in which they were made; a response that
//! is still unread [`TICKS`] ticks later ends the connection. The cost is two atomic additions a call, and no clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Length of a tick.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_secs(5);

/// A response may stay unread for at least `TICKS - 1` ticks and at most `TICKS`.
const TICKS: usize = 4;

/// Counts the unread responses of one connection.
#[derive(Debug, Default)]
pub(crate) struct UnreadResponses {
    /// Number of the current tick.
    now: AtomicU32,
    /// Unread responses by the tick in which they were made, modulo `TICKS`.
    made: [AtomicU32; TICKS],
}

/// One unread response. It counts as read, or given up, when dropped.
#[derive(Debug)]
pub(crate) struct UnreadResponse {
    of: Arc<UnreadResponses>,
    slot: usize,
}

impl UnreadResponses {
    /// Counts a response until the returned guard is dropped.
    pub(crate) fn add(self: &Arc<Self>) -> UnreadResponse {
        let slot = self.now.load(Ordering::Relaxed) as usize % TICKS;
        self.made[slot].fetch_add(1, Ordering::Relaxed);
        UnreadResponse {
            of: Arc::clone(self),
            slot,
        }
    }

    /// Begins the next tick. Returns whether a response has been unread for too long.
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
    fn a_response_that_stays_unread_is_noticed() {
        let unread = Arc::new(UnreadResponses::default());
        let response = unread.add();
        for _ in 1..TICKS {
            drop(unread.add());
            assert!(!unread.tick());
        }
        assert!(unread.tick());
        drop(response);
        for _ in 0..2 * TICKS {
            assert!(!unread.tick());
        }
    }
}
