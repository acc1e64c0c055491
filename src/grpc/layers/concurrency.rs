//! Load shedding: more work than can be done in time is refused at once, while it is cheap to refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{ErrorKind, Result};

/// Lets so many in at once.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    in_use: Arc<AtomicUsize>,
    limit: usize,
}

/// One who is in; leaves when dropped.
#[derive(Debug)]
pub struct Permit {
    in_use: Arc<AtomicUsize>,
}

impl ConcurrencyLimit {
    /// A gate that lets `limit` in at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            in_use: Arc::default(),
            limit,
        }
    }

    /// Goes in.
    ///
    /// # Errors
    /// `OVERLOADED` if it is full.
    pub fn acquire(&self) -> Result<Permit> {
        let pass = Permit {
            in_use: Arc::clone(&self.in_use),
        };
        if self.in_use.fetch_add(1, Ordering::Relaxed) < self.limit {
            Ok(pass)
        } else {
            Err(ErrorKind::Overloaded.into())
        }
    }

    /// How many are in.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_and_again_after_they_left() {
        let gate = ConcurrencyLimit::new(2);
        let passes = (gate.acquire().unwrap(), gate.acquire().unwrap());
        assert_eq!(gate.acquire().unwrap_err().kind, ErrorKind::Overloaded);
        assert_eq!(gate.in_use(), 2, "who was refused is not in");
        drop(passes);
        assert!(gate.acquire().is_ok());
        assert_eq!(gate.in_use(), 0);
    }
}
