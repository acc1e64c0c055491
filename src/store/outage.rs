//! Outages of a store: one log line when it is lost and one when it is back. The operations that fail meanwhile are
//! counted, not logged one by one.
//!
//! An operation that fails is only a suspicion: one connection broke, or all of them are in use. Then a task asks the store
//! over a connection of its own. Only that decides whether the store is lost, for which cause, and when it is back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::{Counter, counter, describe_counter};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The pause between two questions to a store under suspicion. A question has a timeout of its own.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How long after its return the failures of a store are expected: connections that broke meanwhile are replaced when they
/// are next used.
const RECOVERY: Duration = Duration::from_secs(5);

/// How often failures at a store that answers are logged at most.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

const METRIC: &str = "countersign_store_failures_total";

/// Asks the store over a connection of its own. The error says why the store is lost.
pub(super) type Probe<L = String> = Box<dyn Fn() -> BoxFuture<'static, Result<(), L>> + Send + Sync>;

/// Why a store is lost, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// The cause.
    pub(super) cause: String,
    /// If the store answers and only takes no writes: what that means to callers.
    pub(super) without_writes: Option<&'static str>,
}

impl From<String> for Loss {
    fn from(cause: String) -> Self {
        Self {
            cause,
            without_writes: None,
        }
    }
}

/// A store, as the log names it.
#[derive(Clone, Debug)]
pub(super) struct StoreName {
    /// The product: `PostgreSQL`, `Redis`.
    pub(super) product: &'static str,
    /// The value of the label `store` of the metrics: `users`, `sessions`.
    pub(super) label: &'static str,
    /// Where it is: host and port. Never a password.
    pub(super) address: String,
    /// What its loss means to callers.
    pub(super) effect: &'static str,
}

/// Notices the outages of one store. Cheap to clone.
#[derive(Clone)]
pub(super) struct OutageLog(Arc<Inner>);

struct Inner {
    name: StoreName,
    probe: Probe<Loss>,
    failures: Counter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a task asks the store.
    is_watched: bool,
    lost: Option<Lost>,
    /// Operations that failed and are in no line yet.
    failed: u64,
    /// Whether one of them failed since the store was last asked.
    has_new_failure: bool,
    /// When the first of them failed, and the cause of the last.
    first_failure: Option<Instant>,
    cause: String,
    /// When the store was last back.
    back: Option<Instant>,
    /// When failures at a store that answers were last logged.
    reported: Option<Instant>,
}

struct Lost {
    since: Instant,
    /// Whether it answers and only takes no writes.
    takes_reads: bool,
    /// The latest cause.
    cause: String,
}

impl std::fmt::Debug for OutageLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutageLog")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl OutageLog {
    /// A store that is not under suspicion.
    pub(super) fn new<L: Into<Loss> + 'static>(name: StoreName, probe: Probe<L>) -> Self {
        describe_counter!(METRIC, "Operations that failed because of a store.");
        let failures = counter!(METRIC, "store" => name.label);
        failures.increment(0);
        Self(Arc::new(Inner {
            name,
            probe: Box::new(move || {
                let asked = probe();
                async move { asked.await.map_err(Into::into) }.boxed()
            }),
            failures,
            state: Mutex::default(),
        }))
    }

    /// Counts an operation that failed because of the store, and has the store asked why.
    pub(super) fn failed(&self, cause: impl std::fmt::Display) {
        self.0.failures.increment(1);
        let mut state = self.0.state.lock();
        state.failed += 1;
        state.has_new_failure = true;
        state.first_failure.get_or_insert_with(Instant::now);
        if state.lost.is_none() {
            state.cause = cause.to_string();
        }
        self.watch(&mut state);
    }

    /// Notes that the store cannot be reached, and waits in the background for its return.
    pub(super) fn lost(&self, cause: impl std::fmt::Display) {
        self.0.note_lost(cause.to_string().into());
        self.watch(&mut self.0.state.lock());
    }

    /// Why the store is lost; none if it is not.
    pub(super) fn cause(&self) -> Option<String> {
        self.0.state.lock().lost.as_ref().map(|lost| lost.cause.clone())
    }

    fn watch(&self, state: &mut State) {
        if !state.is_watched {
            state.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.0)));
        }
    }
}

/// Lets the next failure begin another task, if this one ends by a panic.
struct Watch(Weak<Inner>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(inner) = self.0.upgrade()
        {
            inner.state.lock().is_watched = false;
        }
    }
}

/// Asks the store while it is lost or operations fail. Ends when there is nothing left to log.
async fn watch(store: Weak<Inner>) {
    let _watch = Watch(Weak::clone(&store));
    while let Some(inner) = store.upgrade() {
        if inner.is_suspect() {
            match (inner.probe)().await {
                Ok(()) => inner.note_answer(),
                Err(loss) => inner.note_lost(loss),
            }
        }
        if inner.log_failures() {
            return;
        }
        drop(inner);
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

impl Inner {
    /// Whether to ask the store: it is lost, or an operation has failed since the question before.
    fn is_suspect(&self) -> bool {
        let mut state = self.state.lock();
        std::mem::take(&mut state.has_new_failure) || state.lost.is_some()
    }

    /// Logs the loss, and during an outage only that the store now does not answer at all, or answers again and takes no writes.
    fn note_lost(&self, loss: Loss) {
        let mut state = self.state.lock();
        if let Some(lost) = &mut state.lost
            && lost.takes_reads == loss.without_writes.is_some()
        {
            lost.cause = loss.cause;
            return;
        }
        let StoreName {
            product,
            label,
            address,
            effect,
        } = &self.name;
        let Loss { cause, without_writes } = loss;
        match without_writes {
            None => tracing::warn!(
                store = label,
                address,
                error = cause,
                "lost {product} at {address}: {cause}; {effect}"
            ),
            Some(effect) => tracing::warn!(
                store = label,
                address,
                error = cause,
                "{product} at {address} takes no writes: {cause}; {effect}"
            ),
        }
        let since = state.lost.as_ref().map(|lost| lost.since).or(state.first_failure);
        state.lost = Some(Lost {
            since: since.unwrap_or_else(Instant::now),
            takes_reads: without_writes.is_some(),
            cause,
        });
    }

    fn note_answer(&self) {
        let mut state = self.state.lock();
        let Some(lost) = state.lost.take() else { return };
        let StoreName {
            product,
            label,
            address,
            ..
        } = &self.name;
        let (outage_seconds, failed) = (lost.since.elapsed().as_secs_f64(), state.failed);
        tracing::info!(
            store = label,
            address,
            outage_seconds,
            failed,
            "{product} at {address} is back after {outage_seconds:.1} s; operations that failed meanwhile: {failed}"
        );
        state.back = Some(Instant::now());
        state.forget_failures();
    }

    /// Logs the failures at a store that answers, if a line is due. Returns whether the task ends.
    fn log_failures(&self) -> bool {
        let mut state = self.state.lock();
        if state.lost.is_some() {
            return false;
        }
        if state.failed == 0 {
            state.is_watched = false;
            return true;
        }
        if is_within(RECOVERY, state.back) {
            state.forget_failures();
        } else if !is_within(REPORT_INTERVAL, state.reported) {
            let StoreName {
                product,
                label,
                address,
                ..
            } = &self.name;
            let (failed, cause) = (state.failed, &state.cause);
            tracing::warn!(
                store = label,
                address,
                failed,
                error = cause,
                "operations on {product} at {address} failed although it answers: {failed} of them, the last because: {cause}"
            );
            state.reported = Some(Instant::now());
            state.forget_failures();
        }
        false
    }
}

impl State {
    fn forget_failures(&mut self) {
        self.failed = 0;
        self.first_failure = None;
    }
}

fn is_within(interval: Duration, then: Option<Instant>) -> bool {
    then.is_some_and(|then| then.elapsed() < interval)
}

#[cfg(test)]
mod tests;
