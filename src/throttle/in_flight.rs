//! Attempts in flight in this process, and the attempts that wait for their results.
//!
//! An attempt that succeeds gets its charge back. So a limit that is full of attempts in flight may have room again
//! soon: the next attempt waits until one of them fails or hands its charge over.
//!
//! Only an attempt that is counted can make room. An attempt that the store has not answered yet may be counted. So a
//! refused attempt also waits for those that asked before it was refused, and for no later ones: a stream of refused
//! attempts must not keep each other waiting.

use std::collections::{BTreeSet, HashMap, VecDeque};
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
    /// The numbers of the attempts that the store has not answered yet.
    asking: BTreeSet<u64>,
    /// The number of the next attempt.
    next: u64,
    /// How many attempts are counted.
    counted: u32,
    /// How many attempts have ended since this entry exists.
    ended: u64,
    /// In the order of their bounds.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// Attempts with this number or a larger one asked after this waiter was refused.
    bound: u64,
    wakeup: oneshot::Sender<Wakeup>,
}

/// What a waiting attempt is told.
#[derive(Debug)]
pub(super) enum Wakeup {
    /// A successful attempt hands over its charge: the waiter is counted already.
    HandedOver(InFlightAttempt),
    /// An attempt failed, or took its charge back: try again.
    Retry,
    /// No attempt is left that could make room.
    UsedUp,
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
    /// Too many attempts wait at this counter already.
    Crowded,
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
    state: State,
}

/// Where [`CounterQueue`] has an attempt.
#[derive(Debug)]
enum State {
    Asking(u64),
    Counted(CountedCharge),
    Gone,
}

impl InFlightAttempts {
    /// Registers an attempt that is about to be counted.
    pub(super) fn register(self: &Arc<Self>, counter: CounterKey) -> InFlightAttempt {
        let mut queues = self.0.lock();
        let queue = queues.entry(counter).or_default();
        let number = queue.next;
        queue.next += 1;
        queue.asking.insert(number);
        InFlightAttempt {
            attempts: Arc::clone(self),
            counter,
            ended_seen: queue.ended,
            state: State::Asking(number),
        }
    }
}

impl CounterQueue {
    fn is_empty(&self) -> bool {
        self.counted == 0 && self.asking.is_empty()
    }

    /// Wakes the first waiter that still waits.
    fn wake_one(&mut self) {
        while let Some(waiter) = self.waiters.pop_front()
            && waiter.wakeup.send(Wakeup::Retry).is_err()
        {}
    }

    /// Wakes the waiters for which no attempt is left that could make room.
    fn wake_hopeless(&mut self, wakeup: impl Fn() -> Wakeup) {
        if self.counted > 0 {
            return;
        }
        let first = self.asking.first().copied().unwrap_or(u64::MAX);
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.bound <= first) {
            // A waiter that has gone needs nothing.
            let _ = waiter.wakeup.send(wakeup());
        }
    }
}

impl InFlightAttempt {
    pub(super) const fn counter(&self) -> CounterKey {
        self.counter
    }

    /// The store has counted this attempt.
    pub(super) fn counted(&mut self, charge: CountedCharge) {
        let mut queues = self.attempts.0.lock();
        if let (State::Asking(number), Some(queue)) = (&self.state, queues.get_mut(&self.counter)) {
            queue.asking.remove(number);
            queue.counted += 1;
            self.state = State::Counted(charge);
        }
    }

    /// Decides how to continue after the store refused to count this attempt. Unless the answer is
    /// [`WhenLimited::Retry`], the attempt is no longer in flight. At most `max_waiters` wait at one counter.
    pub(super) fn limited(&mut self, max_waiters: usize) -> WhenLimited {
        let attempts = Arc::clone(&self.attempts);
        let mut queues = attempts.0.lock();
        let (State::Asking(number), Some(queue)) = (&self.state, queues.get_mut(&self.counter)) else {
            return WhenLimited::UsedUp;
        };
        if queue.ended != self.ended_seen {
            self.ended_seen = queue.ended;
            return WhenLimited::Retry;
        }
        queue.asking.remove(number);
        self.state = State::Gone;
        queue.wake_hopeless(|| Wakeup::UsedUp);
        if queue.is_empty() {
            queues.remove(&self.counter);
            return WhenLimited::UsedUp;
        }
        if queue.waiters.len() >= max_waiters {
            queue.waiters.retain(|waiter| !waiter.wakeup.is_closed());
        }
        if queue.waiters.len() >= max_waiters {
            return WhenLimited::Crowded;
        }
        let (wakeup, woken) = oneshot::channel();
        let bound = queue.next;
        queue.waiters.push_back(Waiter { bound, wakeup });
        WhenLimited::Wait(woken)
    }

    /// Takes out an attempt that was refused and does not wait. It was not counted, so nothing has ended that other
    /// attempts would have to look at.
    pub(super) fn refused(&mut self) {
        let attempts = Arc::clone(&self.attempts);
        let mut queues = attempts.0.lock();
        if let (State::Asking(number), Some(queue)) = (&self.state, queues.get_mut(&self.counter)) {
            queue.asking.remove(number);
            queue.wake_hopeless(|| Wakeup::UsedUp);
            if queue.is_empty() {
                queues.remove(&self.counter);
            }
            self.state = State::Gone;
        }
    }

    /// Hands the charge to a waiting attempt, because this one succeeded or was not checked. Without a waiter, returns
    /// the charge to refund. Keep `self` until the refund is done: until then no other attempt concludes that the limit
    /// is used up.
    pub(super) fn hand_over(&mut self) -> Option<CountedCharge> {
        let State::Counted(charge) = self.state else {
            return None;
        };
        loop {
            let mut queues = self.attempts.0.lock();
            let waiter = queues
                .get_mut(&self.counter)
                .and_then(|queue| queue.waiters.pop_front());
            drop(queues);
            let Some(waiter) = waiter else { return Some(charge) };
            let successor = Self {
                attempts: Arc::clone(&self.attempts),
                counter: self.counter,
                ended_seen: self.ended_seen,
                state: State::Counted(charge),
            };
            match waiter.wakeup.send(Wakeup::HandedOver(successor)) {
                Ok(()) => {
                    self.state = State::Gone;
                    return None;
                }
                // The waiter has gone; this attempt is still the one that is counted.
                Err(Wakeup::HandedOver(mut returned)) => returned.state = State::Gone,
                Err(Wakeup::Retry | Wakeup::UsedUp) => {}
            }
        }
    }
}

impl Drop for InFlightAttempt {
    fn drop(&mut self) {
        let mut queues = self.attempts.0.lock();
        let Some(queue) = queues.get_mut(&self.counter) else {
            return;
        };
        match self.state {
            State::Gone => return,
            State::Asking(number) => {
                queue.asking.remove(&number);
            }
            State::Counted(_) => queue.counted -= 1,
        }
        queue.ended += 1;
        // One waiter checks whether the limit has room now. If no attempt is left that could wake the others later, all of
        // them check.
        queue.wake_one();
        queue.wake_hopeless(|| Wakeup::Retry);
        if queue.is_empty() {
            queues.remove(&self.counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CounterKey = [1; 16];

    fn waiting(attempt: &mut InFlightAttempt) -> oneshot::Receiver<Wakeup> {
        let WhenLimited::Wait(woken) = attempt.limited(8) else {
            panic!("it has to wait")
        };
        woken
    }

    #[test]
    fn an_attempt_that_is_refused_without_waiting_makes_no_other_try_again() {
        let attempts = Arc::<InFlightAttempts>::default();
        let (mut known, mut other) = (attempts.register(KEY), attempts.register(KEY));
        known.refused();
        drop(known);
        assert!(matches!(other.limited(8), WhenLimited::UsedUp));
        assert!(attempts.0.lock().is_empty());
    }

    #[test]
    fn refused_attempts_wait_for_earlier_questions_and_for_no_later_ones() {
        let attempts = Arc::<InFlightAttempts>::default();
        let (mut first, mut second) = (attempts.register(KEY), attempts.register(KEY));
        let mut woken = waiting(&mut second);
        // A stream of later attempts, each of which asks before the one before it is refused.
        let mut last = attempts.register(KEY);
        assert!(woken.try_recv().is_err(), "the first may have been counted");
        let mut first_woken = waiting(&mut first);
        assert!(matches!(woken.try_recv(), Ok(Wakeup::UsedUp)));
        assert!(
            first_woken.try_recv().is_err(),
            "`last` asked before the first was refused"
        );
        let mut streams = Vec::new();
        for _ in 0..5 {
            let next = attempts.register(KEY);
            streams.push(waiting(&mut last));
            last = next;
        }
        assert!(matches!(first_woken.try_recv(), Ok(Wakeup::UsedUp)));
        assert!(
            streams[..4]
                .iter_mut()
                .all(|woken| matches!(woken.try_recv(), Ok(Wakeup::UsedUp)))
        );
        assert!(matches!(last.limited(8), WhenLimited::UsedUp));
        assert!(matches!(streams[4].try_recv(), Ok(Wakeup::UsedUp)));
        assert!(attempts.0.lock().is_empty());
    }

    #[test]
    fn a_counted_attempt_wakes_those_that_wait_for_it() {
        let attempts = Arc::<InFlightAttempts>::default();
        let mut counted = attempts.register(KEY);
        counted.counted((Charge::default(), true));
        let mut others: Vec<_> = (0..4).map(|_| attempts.register(KEY)).collect();
        let mut woken: Vec<_> = others.iter_mut().map(waiting).collect();
        drop(others);
        assert!(woken.iter_mut().all(|woken| woken.try_recv().is_err()));
        drop(woken.remove(0));
        assert!(counted.hand_over().is_none());
        let Ok(Wakeup::HandedOver(mut successor)) = woken[0].try_recv() else {
            panic!("the first that still waits gets the charge")
        };
        drop(counted);
        assert!(woken[1].try_recv().is_err());
        // The last one is crowded out.
        assert!(matches!(attempts.register(KEY).limited(2), WhenLimited::Crowded));
        woken.pop();
        assert!(
            matches!(attempts.register(KEY).limited(2), WhenLimited::Wait(_)),
            "a place of one that has gone"
        );
        assert!(successor.hand_over().is_none());
        let Ok(Wakeup::HandedOver(successor)) = woken[1].try_recv() else {
            panic!("the next one")
        };
        drop(successor);
        assert!(attempts.0.lock().is_empty());
    }
}
