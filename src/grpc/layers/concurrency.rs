//! Load shedding: calls above a fixed limit are refused at once, because a call that waits for its turn would mostly
//! time out after all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{ErrorKind, Result};

/// A limit on how many holders may be at work at once. Clones share the limit.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    in_use: Arc<AtomicUsize>,
    limit: usize,
}

/// The right to work under a [`ConcurrencyLimit`]; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    in_use: Arc<AtomicUsize>,
}

impl ConcurrencyLimit {
    /// A limit of `limit` permits.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            in_use: Arc::default(),
            limit,
        }
    }

    /// Takes a permit, without waiting.
    ///
    /// # Errors
    /// `OVERLOADED` if all permits are in use.
    pub fn acquire(&self) -> Result<Permit> {
        let permit = Permit {
            in_use: Arc::clone(&self.in_use),
        };
        if self.in_use.fetch_add(1, Ordering::Relaxed) < self.limit {
            Ok(permit)
        } else {
            Err(ErrorKind::Overloaded.into())
        }
    }

    /// Number of permits in use.
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
    fn the_limit_holds_and_dropped_permits_are_free_again() {
        let limit = ConcurrencyLimit::new(2);
        let permits = (limit.acquire().unwrap(), limit.acquire().unwrap());
        assert_eq!(limit.acquire().unwrap_err().kind, ErrorKind::Overloaded);
        assert_eq!(limit.in_use(), 2, "a refused caller holds no permit");
        drop(permits);
        assert!(limit.acquire().is_ok());
        assert_eq!(limit.in_use(), 0);
    }
}
