//! The bounded FIFO queue of the hashing threads. It drops jobs whose caller no longer waits.

use std::collections::VecDeque;

use crate::sync::{Condvar, Mutex};

/// A job in the queue, which may become obsolete while it waits.
pub(super) trait QueueItem {
    /// Whether the caller has gone away or its deadline has passed.
    fn is_obsolete(&self) -> bool;
}

/// A bounded queue from async tasks to threads.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// Why the queue did not accept a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushError {
    /// The queue has reached its capacity.
    Full,
    /// The queue has been closed.
    Closed,
}

impl<T: QueueItem> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::with_capacity(capacity.min(1_024)),
                closed: false,
            }),
            filled: Condvar::new(),
            capacity,
        }
    }

    /// Adds a job at the end. A full queue drops its obsolete jobs first, so that they never block a caller.
    pub(super) fn push(&self, item: T) -> Result<(), PushError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        if state.waiting.len() >= self.capacity {
            state.waiting.retain(|item| !item.is_obsolete());
        }
        if state.waiting.len() >= self.capacity {
            return Err(PushError::Full);
        }
        state.waiting.push_back(item);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for the first job that is not obsolete, and removes it. `None` once the queue is closed.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            match state.waiting.pop_front() {
                Some(item) if item.is_obsolete() => {}
                Some(item) => return Some(item),
                None => self.filled.wait(&mut state),
            }
        }
    }

    /// The number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Drops all waiting jobs, and accepts no more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.filled.notify_all();
    }
}
