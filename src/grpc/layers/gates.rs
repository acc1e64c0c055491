//! Load shedding: fixed limits on calls, streams and bytes, in all, for each source and for each connection. A call above a
//! limit is refused at once, because a call that waits for its turn would mostly time out after all.
//!
//! A source may hold at most a quarter as much as is free without it: one source alone gets a fifth of a gate, and the next
//! ones get less and less, so that it takes some thirty sources to use up a gate. A source that holds nothing is admitted as
//! long as there is a place, so that of the gate of bytes, in which one request may take much, fewer sources suffice.

use std::ops::Index;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use metrics::Counter;

use super::gate_limits::{CallLimits, GateKind, GateLimits};
use crate::listener::{Peer, PerSource, SourceShare};
use crate::model::{Error, ErrorKind, Result, Source};

/// A source may hold one part in this many of what is free.
const SOURCE_PARTS: usize = 4;

/// An IPv6 site (a /48) may hold one part in this many of what is free.
const SITE_PARTS: usize = 2;

/// A gate counts as full while at most one part in this many is free.
const FULL_PARTS: usize = 16;

/// For this many seconds in a row a gate must have been full before the replica reports it.
const FULL_SECONDS: u32 = 5;

/// One counter for each gate.
#[derive(Debug, Default)]
pub(crate) struct Usage([AtomicUsize; GateKind::ALL.len()]);

impl Index<GateKind> for Usage {
    type Output = AtomicUsize;

    fn index(&self, kind: GateKind) -> &AtomicUsize {
        &self.0[kind as usize]
    }
}

/// All gates of the process.
pub(super) struct Gates {
    gates: [Gate; GateKind::ALL.len()],
    sources: Arc<PerSource<Usage>>,
}

struct Gate {
    limits: GateLimits,
    in_use: AtomicUsize,
    refused_by_connection: Counter,
    refused_by_source: Counter,
    refused_in_all: Counter,
    /// Refusals because the whole gate was full.
    full_refusals: AtomicU64,
    /// `full_refusals` at the last observation.
    observed_refusals: AtomicU64,
    /// For how many observations in a row the gate has been full.
    full_for: AtomicU32,
}

/// A gate that has stayed full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullGate {
    /// Its name, as in the metrics.
    pub name: &'static str,
    /// Whether callers should be sent to other replicas.
    pub is_essential: bool,
}

impl Gates {
    /// The gates, all unused. The metrics recorder must be installed before.
    pub(super) fn new(limits: &CallLimits) -> Self {
        metrics::describe_counter!(
            "countersign_gate_refusals_total",
            "Calls refused with OVERLOADED, by gate and by whose share was used up: connection, source or total."
        );
        let gate = |kind: GateKind| {
            let counter = |scope: &'static str| {
                if !kind.refuses() {
                    return Counter::noop();
                }
                let counter =
                    metrics::counter!("countersign_gate_refusals_total", "gate" => kind.name(), "scope" => scope);
                counter.increment(0);
                counter
            };
            Gate {
                limits: kind.limits(limits),
                in_use: AtomicUsize::new(0),
                refused_by_connection: counter("connection"),
                refused_by_source: counter("source"),
                refused_in_all: counter("total"),
                full_refusals: AtomicU64::new(0),
                observed_refusals: AtomicU64::new(0),
                full_for: AtomicU32::new(0),
            }
        };
        Self {
            gates: GateKind::ALL.map(gate),
            sources: Arc::default(),
        }
    }

    fn gate(&self, kind: GateKind) -> &Gate {
        &self.gates[kind as usize]
    }

    /// How much of a gate is in use.
    pub(super) fn in_use(&self, kind: GateKind) -> usize {
        self.gate(kind).in_use.load(Ordering::Relaxed)
    }

    /// Whether more than half of a gate is in use.
    pub(super) fn is_crowded(&self, kind: GateKind) -> bool {
        self.in_use(kind) > self.gate(kind).limits.total / 2
    }

    /// Notes which gates are full; to be called once a second.
    pub(super) fn observe(&self) {
        for gate in &self.gates {
            let refusals = gate.full_refusals.load(Ordering::Relaxed);
            let refused = gate.observed_refusals.swap(refusals, Ordering::Relaxed) != refusals;
            let free = gate.limits.total.saturating_sub(gate.in_use.load(Ordering::Relaxed));
            if refused || free <= gate.limits.total / FULL_PARTS {
                gate.full_for.fetch_add(1, Ordering::Relaxed);
            } else {
                gate.full_for.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The gates that have been full for some seconds.
    pub(super) fn full(&self) -> impl Iterator<Item = FullGate> {
        let full = |kind: &GateKind| self.gate(*kind).full_for.load(Ordering::Relaxed) >= FULL_SECONDS;
        let kinds = GateKind::ALL.into_iter().filter(|kind| kind.refuses());
        kinds.filter(full).map(|kind| FullGate {
            name: kind.name(),
            is_essential: kind.is_essential(),
        })
    }
}

/// One connection as a consumer of the gates.
pub(crate) struct Consumer {
    gates: Arc<Gates>,
    connection: Usage,
    /// `None` where many callers share the address: only the limits in all apply.
    source: Option<SourceShare<Usage>>,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Connection,
    Source,
    Total,
}

/// What a call or a connection holds of a gate; given back when dropped.
pub struct GatePermit {
    consumer: Arc<Consumer>,
    kind: GateKind,
    count: usize,
}

impl Consumer {
    pub(super) fn new(gates: &Arc<Gates>, peer: &Peer) -> Self {
        Self {
            source: (!peer.is_shared).then(|| gates.sources.share(Source::of(peer.ip()))),
            gates: Arc::clone(gates),
            connection: Usage::default(),
        }
    }

    /// Takes `count` of a gate, without waiting.
    ///
    /// # Errors
    /// `OVERLOADED` if the share of the connection or of its source, or the whole gate, is in use.
    pub(super) fn acquire(self: &Arc<Self>, kind: GateKind, count: usize) -> Result<GatePermit> {
        match self.take(kind, count) {
            Ok(()) => Ok(GatePermit {
                consumer: Arc::clone(self),
                kind,
                count,
            }),
            Err(scope) => Err(self.refused(kind, scope)),
        }
    }

    fn take(&self, kind: GateKind, count: usize) -> Result<(), Scope> {
        let gate = self.gates.gate(kind);
        let add = |counter: &AtomicUsize, limit: usize| {
            let after = counter.fetch_add(count, Ordering::Relaxed).saturating_add(count);
            if after <= limit {
                return Ok(after);
            }
            counter.fetch_sub(count, Ordering::Relaxed);
            Err(())
        };
        let after = add(&gate.in_use, gate.limits.total).map_err(|()| Scope::Total)?;
        let Some(source) = &self.source else { return Ok(()) };
        let give_back = |scope| {
            gate.in_use.fetch_sub(count, Ordering::Relaxed);
            scope
        };
        add(&self.connection[kind], gate.limits.connection).map_err(|()| give_back(Scope::Connection))?;
        // What was free before this call.
        let free = gate.limits.total - after + count;
        let mut parts = SOURCE_PARTS;
        for (taken, level) in source.levels().enumerate() {
            // A source that holds nothing may take what it needs: a large batch must not fail because others hold much.
            let share = match level[kind].load(Ordering::Relaxed) {
                0 => free,
                _ => free / parts,
            };
            if add(&level[kind], share).is_err() {
                for level in source.levels().take(taken) {
                    level[kind].fetch_sub(count, Ordering::Relaxed);
                }
                self.connection[kind].fetch_sub(count, Ordering::Relaxed);
                return Err(give_back(Scope::Source));
            }
            parts = SITE_PARTS;
        }
        Ok(())
    }

    fn release(&self, kind: GateKind, count: usize) {
        self.gates.gate(kind).in_use.fetch_sub(count, Ordering::Relaxed);
        if let Some(source) = &self.source {
            self.connection[kind].fetch_sub(count, Ordering::Relaxed);
            for level in source.levels() {
                level[kind].fetch_sub(count, Ordering::Relaxed);
            }
        }
    }

    fn refused(&self, kind: GateKind, scope: Scope) -> Error {
        let gate = self.gates.gate(kind);
        let (counter, message) = match scope {
            Scope::Connection => (
                &gate.refused_by_connection,
                "overloaded: this connection has its share in use; try again later",
            ),
            Scope::Source => (
                &gate.refused_by_source,
                "overloaded: this address has its share in use; try again later",
            ),
            Scope::Total => {
                gate.full_refusals.fetch_add(1, Ordering::Relaxed);
                (&gate.refused_in_all, "overloaded; try again later")
            }
        };
        counter.increment(1);
        Error::new(ErrorKind::Overloaded, message)
    }
}

impl GatePermit {
    /// Takes more of the same gate.
    ///
    /// # Errors
    /// `OVERLOADED`; the permit then holds what it held before.
    pub(super) fn grow(&mut self, count: usize) -> Result<()> {
        if let Err(scope) = self.consumer.take(self.kind, count) {
            return Err(self.consumer.refused(self.kind, scope));
        }
        self.count += count;
        Ok(())
    }
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        self.consumer.release(self.kind, self.count);
    }
}

impl std::fmt::Debug for Gates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let in_use = GateKind::ALL.map(|kind| (kind.name(), self.in_use(kind)));
        f.debug_map().entries(in_use).finish()
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for GatePermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatePermit")
            .field("kind", &self.kind)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "gates_tests.rs"]
mod tests;
