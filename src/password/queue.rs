//! The queue before the hashing threads: bounded, first come first served, without those who no longer wait.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// Something that waits and may cease to be worth doing.
pub(super) trait QueueItem {
    /// Whether nobody waits for it any more, or will not when it is done.
    fn is_obsolete(&self) -> bool;
}

/// A bounded queue between tasks and threads.
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

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushError {
    Full,
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

    /// Adds to the end. Before it refuses it forgets the hopeless, so that they never keep anybody out.
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

    /// Takes from the front what is worth doing; waits for it. None once the queue is closed.
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

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Forgets all that wait, and takes no more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.filled.notify_all();
    }
}
