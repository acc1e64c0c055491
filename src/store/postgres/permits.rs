//! How many callers may use a pool at once, and how many of them may write.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::clock::millis;
use crate::model::ErrorKind;

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    /// The most connections.
    pub(super) size: u32,
    /// The most callers that wait for one.
    pub(super) waiting: u32,
    /// The longest wait for a connection.
    pub(super) acquire_timeout: Duration,
    /// The longest wait until fewer writes are under way.
    pub(super) write_timeout: Duration,
}

/// The permits of a pool.
pub(super) struct Permits {
    /// The most callers at once: those that have a connection and those that wait.
    max_callers: u32,
    /// One permit for each caller.
    callers: Arc<Semaphore>,
    /// One permit for each caller that writes: some callers can only be readers, so that reads go on while every write waits.
    write_callers: Arc<Semaphore>,
    /// One permit for each write under way, for the same reason fewer than connections.
    writes: Semaphore,
    max_writes: u32,
    write_timeout: Duration,
}

/// The permits of one caller.
pub(super) struct CallerPermit {
    _caller: OwnedSemaphorePermit,
    _of_write: Option<OwnedSemaphorePermit>,
}

impl Permits {
    pub(super) fn new(limits: PoolLimits) -> Self {
        let PoolLimits {
            size,
            waiting,
            write_timeout,
            ..
        } = limits;
        let max_write_callers = size.saturating_add(waiting);
        let max_callers = max_write_callers.saturating_add(kept_for_reads(max_write_callers));
        let max_writes = size.saturating_sub(kept_for_reads(size)).max(1);
        Self {
            max_callers,
            callers: Arc::new(Semaphore::new(max_callers as usize)),
            write_callers: Arc::new(Semaphore::new(max_write_callers as usize)),
            writes: Semaphore::new(max_writes as usize),
            max_writes,
            write_timeout,
        }
    }

    /// Admits a caller. `OVERLOADED` at once if the most callers, or the most of those that write, are there already.
    pub(super) fn admit(&self, writes: bool) -> Result<CallerPermit, ErrorKind> {
        let take = |permits: &Arc<Semaphore>| {
            Arc::clone(permits)
                .try_acquire_owned()
                .map_err(|_| ErrorKind::Overloaded)
        };
        Ok(CallerPermit {
            _caller: take(&self.callers)?,
            _of_write: if writes { Some(take(&self.write_callers)?) } else { None },
        })
    }

    /// The callers of now.
    pub(super) fn callers(&self) -> u32 {
        let free = u32::try_from(self.callers.available_permits()).unwrap_or(u32::MAX);
        self.max_callers.saturating_sub(free)
    }

    /// Waits until fewer writes are under way than may be. The error says that too many were for too long.
    pub(super) async fn write(&self) -> Result<SemaphorePermit<'_>, String> {
        match timeout(self.write_timeout, self.writes.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(format!(
                "{} writes were under way for {} ms; the other connections are kept for reads (storage.database_pool)",
                self.max_writes,
                millis(self.write_timeout)
            )),
        }
    }
}

/// How many of so many connections only reads may use, and how many more callers than these may read.
const fn kept_for_reads(number: u32) -> u32 {
    number.div_ceil(4)
}
