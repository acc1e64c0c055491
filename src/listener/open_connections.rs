//! The open connections of a listener: their number, in all and by source, and which of them give way when it is full.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::{IdleGivesWay, Limits, PerSource, SourceShare};
use crate::model::Source;

/// An IPv6 site (a /48) may have as many connections as this many of its sources.
const SOURCES_PER_SITE: usize = 4;

/// A source may have one part in this many of the connections that are free, so that the last ones stay for other sources.
const FREE_PARTS: usize = 4;

/// Whether a connection works on a request. An idle one may have to give way to a new one.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Requests>);

/// The requests of one connection.
#[derive(Debug, Default)]
struct Requests {
    worked_on: AtomicUsize,
    /// Whether there has been one.
    any: AtomicBool,
}

/// A request that is worked on, until dropped.
#[derive(Debug)]
pub struct Busy(Activity);

impl Activity {
    /// Marks the connection as busy.
    #[must_use]
    pub fn begin(&self) -> Busy {
        self.0.worked_on.fetch_add(1, Ordering::Relaxed);
        self.0.any.store(true, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn is_idle(&self) -> bool {
        self.0.worked_on.load(Ordering::Relaxed) == 0
    }

    fn is_unused(&self) -> bool {
        !self.0.any.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.worked_on.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The open connections of a listener.
pub(super) struct OpenConnections {
    limits: Limits,
    slots: Arc<Semaphore>,
    sources: Arc<PerSource<AtomicUsize>>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By number: the oldest first. Without those that are giving way.
    open: BTreeMap<u64, Entry>,
}

struct Entry {
    activity: Activity,
    /// `None` where limits by source do not apply.
    source: Option<SourceShare<AtomicUsize>>,
    /// Set once the connection has its task.
    task: Option<AbortHandle>,
}

/// One open connection; it is no longer counted when dropped.
pub(super) struct OpenConnection {
    connections: Arc<OpenConnections>,
    number: u64,
    pub(super) activity: Activity,
    gauge: metrics::Gauge,
    _slot: OwnedSemaphorePermit,
}

/// The source has as many connections as it may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SourceIsFull;

impl OpenConnections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(limits.max_connections)),
            limits,
            sources: Arc::default(),
            table: Mutex::default(),
        })
    }

    /// Whether many callers share the address.
    pub(super) fn is_shared(&self, address: IpAddr) -> bool {
        self.limits
            .shared_sources
            .iter()
            .any(|network| network.contains(address))
    }

    /// Admits a connection from `source` (`None`: limits by source do not apply). If all are in use, an idle one gives way;
    /// if none is idle, waits for one to end.
    pub(super) async fn admit(self: &Arc<Self>, source: Option<Source>) -> Result<OpenConnection, SourceIsFull> {
        let (number, activity) = self.register(source)?;
        // Closed only with the listener, which waits here.
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| SourceIsFull)?;
        let gauge = metrics::gauge!("countersign_connections");
        gauge.increment(1);
        Ok(OpenConnection {
            connections: Arc::clone(self),
            number,
            activity,
            gauge,
            _slot: slot,
        })
    }

    fn register(&self, source: Option<Source>) -> Result<(u64, Activity), SourceIsFull> {
        let share = source.map(|source| self.sources.share(source));
        let table = &mut *self.table.lock();
        let free = self.limits.max_connections.saturating_sub(table.open.len());
        if let Some(share) = &share
            && self.limits.max_per_source < self.limits.max_connections
            && self.is_full(share, free)
            && !(self.source_gives_way() && table.give_way(|entry| entry.is_of(share)))
        {
            return Err(SourceIsFull);
        }
        if free == 0 {
            table.give_way(|_| true);
        }
        for count in share.iter().flat_map(SourceShare::levels) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let number = table.next;
        table.next += 1;
        let activity = Activity::default();
        table.open.insert(
            number,
            Entry {
                activity: activity.clone(),
                source: share,
                task: None,
            },
        );
        Ok((number, activity))
    }

    fn source_gives_way(&self) -> bool {
        self.limits.idle_gives_way == IdleGivesWay::WhenSourceHasItsShare
    }

    /// Whether the source, or its site, has its share of the connections. A source without a connection is never full: it
    /// waits if there is none left.
    fn is_full(&self, share: &SourceShare<AtomicUsize>, free: usize) -> bool {
        let mut limit = self.limits.max_per_source;
        let mut free_share = free / FREE_PARTS;
        share.levels().any(|count| {
            let count = count.load(Ordering::Relaxed);
            let full = count >= limit || (count > 0 && !self.source_gives_way() && count >= free_share);
            limit = limit.saturating_mul(SOURCES_PER_SITE);
            free_share *= 2;
            full
        })
    }
}

impl Entry {
    fn is_of(&self, share: &SourceShare<AtomicUsize>) -> bool {
        self.source.as_ref().is_some_and(|own| own.is_same_source(share))
    }

    fn leave(self) {
        for count in self.source.iter().flat_map(SourceShare::levels) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Table {
    /// Ends an idle connection: of those that `may` give way, the oldest of the source that has the most. Those that never
    /// had a request come first. Returns whether there was one.
    fn give_way(&mut self, may: impl Fn(&Entry) -> bool) -> bool {
        let idle = self
            .open
            .iter()
            .filter(|(_, entry)| entry.task.is_some() && entry.activity.is_idle() && may(entry));
        let weight = |entry: &Entry| {
            let source = entry.source.as_ref().and_then(|share| share.levels().next());
            let weight = source.map_or(0, |count| count.load(Ordering::Relaxed));
            (entry.activity.is_unused(), weight)
        };
        // Of equals, `max_by_key` returns the last one.
        let Some(number) = idle
            .rev()
            .max_by_key(|(_, entry)| weight(entry))
            .map(|(number, _)| *number)
        else {
            return false;
        };
        if let Some(entry) = self.open.remove(&number) {
            if let Some(task) = &entry.task {
                task.abort();
            }
            entry.leave();
            metrics::counter!("countersign_connections_closed_total", "reason" => "gave_way").increment(1);
        }
        true
    }
}

impl OpenConnection {
    /// Names the task that serves the connection, which ends if the connection has to give way.
    pub(super) fn runs_in(connections: &OpenConnections, number: u64, task: AbortHandle) {
        if let Some(entry) = connections.table.lock().open.get_mut(&number) {
            entry.task = Some(task);
        }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(entry) = self.connections.table.lock().open.remove(&self.number) {
            entry.leave();
        }
        self.gauge.decrement(1);
    }
}

#[cfg(test)]
#[path = "open_connections_tests.rs"]
mod tests;
