//! Load shedding: more work than can be done in time is refused at once, while it is cheap to refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{ErrorKind, Result};

/// Lets so many in at once.
#[derive(Clone, Debug)]
pub struct Gate {
    inside: Arc<AtomicUsize>,
    limit: usize,
}

/// One who is in; leaves when dropped.
#[derive(Debug)]
pub struct Pass {
    inside: Arc<AtomicUsize>,
}

impl Gate {
    /// A gate that lets `limit` in at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inside: Arc::default(),
            limit,
        }
    }

    /// Goes in.
    ///
    /// # Errors
    /// `OVERLOADED` if it is full.
    pub fn enter(&self) -> Result<Pass> {
        let pass = Pass {
            inside: Arc::clone(&self.inside),
        };
        if self.inside.fetch_add(1, Ordering::Relaxed) < self.limit {
            Ok(pass)
        } else {
            Err(ErrorKind::Overloaded.into())
        }
    }

    /// How many are in.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_and_again_after_they_left() {
        let gate = Gate::new(2);
        let passes = (gate.enter().unwrap(), gate.enter().unwrap());
        assert_eq!(gate.enter().unwrap_err().kind, ErrorKind::Overloaded);
        assert_eq!(gate.inside(), 2, "who was refused is not in");
        drop(passes);
        assert!(gate.enter().is_ok());
        assert_eq!(gate.inside(), 0);
    }
}
