//! Attempts in flight in this process, and the attempts that wait for their results.
//!
//! An attempt that succeeds gets its charge back. So a limit that is full of attempts in flight may have room again
//! soon: the next attempt waits until one of them fails or hands its charge over.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::store::throttles::{Charge, CounterKey};

/// The attempts in flight, by the counter that counts them.
#[derive(Debug, Default)]
pub(super) struct InFlightAttempts(Mutex<HashMap<CounterKey, CounterQueue>>);

/// The attempts of one counter.
#[derive(Debug, Default)]
struct CounterQueue {
    /// How many attempts are counted, or about to be.
    in_flight: u32,
    /// How many attempts have ended since this entry exists.
    ended: u64,
    waiters: VecDeque<oneshot::Sender<Wakeup>>,
}

/// What a waiting attempt is told.
#[derive(Debug)]
pub(super) enum Wakeup {
    /// A successful attempt hands over its charge: the waiter is counted already.
    HandedOver(InFlightAttempt),
    /// An attempt failed, or took its charge back: try again.
    Retry,
}

/// What an attempt must do after the store refused to count it.
#[derive(Debug)]
pub(super) enum WhenLimited {
    /// Another attempt has ended meanwhile: try again.
    Retry,
    /// Other attempts are in flight: wait for the result of one.
    Wait(oneshot::Receiver<Wakeup>),
    /// No attempt is in flight: failures have used the limit up.
    UsedUp,
}

/// A charge and whether the shared store counted it, else this replica.
pub(super) type CountedCharge = (Charge, bool);

/// An attempt that is counted, or about to be. If it is dropped, it is no longer in flight and its charge stays.
#[derive(Debug)]
pub(super) struct InFlightAttempt {
    attempts: Arc<InFlightAttempts>,
    counter: CounterKey,
    /// The value of [`CounterQueue::ended`] when this attempt last looked.
    ended_seen: u64,
    pub(super) counted: Option<CountedCharge>,
    /// Whether [`CounterQueue::in_flight`] includes this attempt.
    is_registered: bool,
}

impl InFlightAttempts {
    /// Registers an attempt that is about to be counted.
    pub(super) fn register(self: &Arc<Self>, counter: CounterKey) -> InFlightAttempt {
        let mut queues = self.0.lock();
        let queue = queues.entry(counter).or_default();
        queue.in_flight += 1;
        InFlightAttempt {
            attempts: Arc::clone(self),
            counter,
            ended_seen: queue.ended,
            counted: None,
            is_registered: true,
        }
    }
}

impl InFlightAttempt {
    pub(super) const fn counter(&self) -> CounterKey {
        self.counter
    }

    /// Decides how to continue after the store refused to count this attempt. Unless the answer is
    /// [`WhenLimited::Retry`], the attempt is no longer in flight.
    pub(super) fn limited(&mut self) -> WhenLimited {
        let attempts = Arc::clone(&self.attempts);
        let mut queues = attempts.0.lock();
        let Some(queue) = queues.get_mut(&self.counter) else {
            return WhenLimited::UsedUp;
        };
        if queue.ended != self.ended_seen {
            self.ended_seen = queue.ended;
            return WhenLimited::Retry;
        }
        self.is_registered = false;
        queue.in_flight -= 1;
        if queue.in_flight > 0 {
            let (sender, wakeup) = oneshot::channel();
            queue.waiters.push_back(sender);
            return WhenLimited::Wait(wakeup);
        }
        // No attempt is left whose end could wake the waiters.
        wake(&mut queue.waiters, usize::MAX);
        queues.remove(&self.counter);
        WhenLimited::UsedUp
    }

    /// Hands the charge to a waiting attempt, because this one succeeded or was not checked. Without a waiter, returns
    /// the charge to refund. Keep `self` until the refund is done: until then no other attempt concludes that the limit
    /// is used up.
    pub(super) fn hand_over(&mut self) -> Option<CountedCharge> {
        let counted = self.counted.take()?;
        loop {
            let mut queues = self.attempts.0.lock();
            let waiter = queues
                .get_mut(&self.counter)
                .and_then(|queue| queue.waiters.pop_front());
            drop(queues);
            let Some(waiter) = waiter else { return Some(counted) };
            let successor = Self {
                attempts: Arc::clone(&self.attempts),
                counter: self.counter,
                ended_seen: self.ended_seen,
                counted: Some(counted),
                is_registered: true,
            };
            match waiter.send(Wakeup::HandedOver(successor)) {
                Ok(()) => {
                    self.is_registered = false;
                    return None;
                }
                // The waiter has gone; this attempt is still the one that is registered.
                Err(Wakeup::HandedOver(mut returned)) => returned.is_registered = false,
                Err(Wakeup::Retry) => {}
            }
        }
    }
}

impl Drop for InFlightAttempt {
    fn drop(&mut self) {
        if !self.is_registered {
            return;
        }
        let mut queues = self.attempts.0.lock();
        let Some(queue) = queues.get_mut(&self.counter) else {
            return;
        };
        queue.in_flight -= 1;
        queue.ended += 1;
        // One waiter checks whether the limit has room now. If no attempt is left in flight, nothing would wake the
        // others later, so all of them check.
        let count = if queue.in_flight == 0 { usize::MAX } else { 1 };
        wake(&mut queue.waiters, count);
        if queue.in_flight == 0 {
            queues.remove(&self.counter);
        }
    }
}

/// Wakes the first `count` waiters that still wait.
fn wake(waiters: &mut VecDeque<oneshot::Sender<Wakeup>>, count: usize) {
    let mut woken = 0;
    while woken < count
        && let Some(waiter) = waiters.pop_front()
    {
        woken += usize::from(waiter.send(Wakeup::Retry).is_ok());
    }
}
