//! The feed that keeps the index fresh: it loads the index, follows announcements and reconciles with the durable record.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::freshness::Freshness;
use super::index::{Index, retained_until};
use crate::clock::{Clock, ClockReading, UnixMillis, millis};
use crate::config::{OnStale, Revocation as RevocationConfig};
use crate::model::{Error, ErrorKind, Result, Revocation};
use crate::store::{AnnouncementEvent, Announcements, Changes, ReloadReason, RevocationStore, Snapshot};

/// How long one reconciliation may take before it counts as failed.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many events a slow watcher may fall behind before it is ended.
const WATCH_BUFFER: usize = 16_384;

/// The largest difference between this machine's clock and the store's at which anything is created or removed by it.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// How often entries that concern no unexpired token are removed from the index.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How often the age of the revocations is looked at, for the log.
const STALENESS_INTERVAL: Duration = Duration::from_secs(1);

/// An event of the feed.
#[derive(Clone, Debug)]
pub enum FeedEvent {
    /// A revocation that is new to this replica.
    Revocation(Arc<Revocation>),
    /// The key ring changed.
    Keys,
    /// The index was reconciled.
    Heartbeat(Arc<Freshness>),
}

/// The index, and how it is kept fresh.
#[derive(Debug)]
pub struct Feed {
    index: Index,
    /// The last good reconciliation.
    freshness: ArcSwapOption<Freshness>,
    /// Starts the next reconciliation at once.
    reconcile_now: Notify,
    watchers: broadcast::Sender<FeedEvent>,
    /// Held while a revocation is added and sent to the watchers: one that is in the index has been sent.
    publishing: Mutex<()>,
    ready: watch::Sender<bool>,
    /// Why the last attempt to load the index failed; none if none has failed, or since it is loaded.
    load_failure: watch::Sender<Option<Error>>,
    clock: Arc<dyn Clock>,
    /// When the feed was created, by both clocks.
    created: ClockReading,
    config: RevocationConfig,
}

impl Feed {
    /// A feed whose index is not loaded yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, config: RevocationConfig) -> Arc<Self> {
        Arc::new(Self {
            index: Index::new(),
            freshness: ArcSwapOption::empty(),
            reconcile_now: Notify::new(),
            watchers: broadcast::channel(WATCH_BUFFER).0,
            publishing: Mutex::default(),
            ready: watch::channel(false).0,
            load_failure: watch::channel(None).0,
            created: clock.read(),
            clock,
            config,
        })
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The last good reconciliation, if it is fresh enough to answer from.
    ///
    /// # Errors
    /// `REVOCATIONS_STALE` if it is too old, unless `on_stale` is `serve`, and always before the first load.
    pub fn freshness(&self) -> Result<Arc<Freshness>> {
        let Some(freshness) = self.freshness.load_full() else {
            return Err(Error::revocations_stale().because("the index is not loaded yet"));
        };
        if self.config.on_stale == OnStale::Serve {
            return Ok(freshness);
        }
        let age = freshness.age(&*self.clock);
        if age > self.config.max_staleness {
            return Err(
                Error::revocations_stale().because(format!("the last reconciliation is {} ms old", age.as_millis()))
            );
        }
        Ok(freshness)
    }

    /// The `as_of` of [`Feed::freshness`] at `now` of the wall clock. Every Validate starts with it, so it counts no
    /// reference.
    pub fn as_of(&self, now: UnixMillis) -> Result<UnixMillis> {
        let freshness = self.freshness.load();
        match freshness.as_ref() {
            Some(freshness)
                if self.config.on_stale == OnStale::Serve
                    || freshness.age_at(self.clock.reading_at(now)) <= self.config.max_staleness =>
            {
                Ok(freshness.as_of)
            }
            Some(_) | None => self.freshness().map(|freshness| freshness.as_of),
        }
    }

    /// The last good reconciliation, however old; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Freshness>> {
        self.freshness.load_full()
    }

    /// Adds a revocation. When this returns, it has been sent to the watchers, also if another task added it: the heartbeat
    /// that follows promises that.
    pub fn note(&self, revocation: &Revocation) {
        let _publishing = self.publishing.lock();
        if retained_until(revocation) >= self.capped_now() && self.index.insert(revocation) {
            // An error only means that there are no watchers.
            drop(self.watchers.send(FeedEvent::Revocation(Arc::new(revocation.clone()))));
        }
    }

    /// Tells the watchers that the key ring changed.
    pub fn keys_changed(&self) {
        drop(self.watchers.send(FeedEvent::Keys));
    }

    /// All events from now on. Subscribe before reading [`Feed::last`] and the index, so that no event is missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<FeedEvent> {
        self.watchers.subscribe()
    }

    /// Waits until the index has been loaded.
    pub async fn loaded(&self) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        drop(self.ready.subscribe().wait_for(|ready| *ready).await);
    }

    /// Waits until the store refuses to load the index, which another attempt does not change: a right is missing, or the
    /// schema is damaged.
    pub async fn refused(&self) -> Error {
        let mut failures = self.load_failure.subscribe();
        let refusal = |failure: &Option<Error>| failure.as_ref().is_some_and(|error| error.kind == ErrorKind::Internal);
        // The sender lives in `self`, so the channel cannot close while this waits.
        let found = failures
            .wait_for(refusal)
            .await
            .ok()
            .and_then(|failure| failure.clone());
        found.unwrap_or_else(|| ErrorKind::Internal.into())
    }

    /// Why the last attempt to load the index failed, if it is not loaded yet.
    #[must_use]
    pub fn load_failure(&self) -> Option<Error> {
        self.load_failure.borrow().clone()
    }

    /// Loads the index and keeps it fresh until `stop`.
    pub async fn run(
        self: Arc<Self>,
        store: Arc<dyn RevocationStore>,
        announcements: Option<Arc<dyn Announcements>>,
        stop: CancellationToken,
    ) {
        let reconcile = self.reconcile_forever(&*store);
        let follow = self.follow(announcements);
        let sweep = self.sweep_forever();
        let staleness = self.log_staleness();
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(reconcile, follow, sweep, staleness); } => {}
        }
    }

    async fn reconcile_forever(&self, store: &dyn RevocationStore) {
        let mut failing = false;
        loop {
            let done = self.reconcile(store).await;
            let outcome = if done.is_ok() { "done" } else { "failed" };
            metrics::counter!("countersign_reconciliations_total", "outcome" => outcome).increment(1);
            if self.last().is_none() {
                self.load_failure.send_replace(done.as_ref().err().cloned());
            }
            match done {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("revocations are reconciled again");
                }
                // Once per outage: a line per interval would hide the cause. The loss of the database has its own lines.
                Err(error) if !failing && !error.is_logged => {
                    failing = true;
                    tracing::warn!(%error, "cannot reconcile revocations with the database; tokens are validated with the known ones until revocation.max_staleness");
                }
                Ok(()) | Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.reconcile_interval) => {}
                () = self.reconcile_now.notified() => {}
            }
        }
    }

    /// Logs when the revocations become too old to validate tokens by them, and when they are fresh again. The calls that are
    /// refused meanwhile are counted only.
    async fn log_staleness(&self) {
        let mut stale_since = None;
        loop {
            tokio::time::sleep(STALENESS_INTERVAL).await;
            let is_stale = self.last().is_some() && self.freshness().is_err();
            match stale_since {
                None if is_stale => {
                    stale_since = Some(self.clock.monotonic());
                    let max_staleness_seconds = self.config.max_staleness.as_secs_f64();
                    tracing::warn!(
                        max_staleness_seconds,
                        "tokens are no longer validated: the revocations are older than revocation.max_staleness, because \
                         the database does not answer"
                    );
                }
                Some(since) if !is_stale => {
                    stale_since = None;
                    let seconds = self.clock.monotonic().saturating_sub(since).as_secs_f64();
                    tracing::info!(seconds, "tokens are validated again: the revocations are fresh");
                }
                None | Some(_) => {}
            }
        }
    }

    /// Reads the new revocations from the durable record once, or all of them.
    pub async fn reconcile(&self, store: &dyn RevocationStore) -> Result<()> {
        let sent = self.clock.read();
        let known = self.freshness.load_full();
        let changes = match &known {
            Some(known) => tokio::time::timeout(RECONCILE_TIMEOUT, store.revocations_since(&known.cursor))
                .await
                .map_err(|_| Error::store_unavailable("reconciliation timed out"))??,
            None => Changes::Reload(ReloadReason::ManyNew),
        };
        let snapshot = match changes {
            Changes::Since(snapshot) => snapshot,
            Changes::Reload(_) => {
                if known.is_some() {
                    tracing::warn!(
                        "the database was replaced, or there are many new revocations; all revocations are loaded again"
                    );
                }
                // Without a timeout: the revocations are read in parts, and each part has the store's own timeout.
                store
                    .load_revocations(sent.wall.minus(super::index::LONGEST_TOKEN))
                    .await?
            }
        };
        let Snapshot {
            rows, cursor, as_of, ..
        } = snapshot;
        // Rows are only added: an acknowledged revocation stays in force even if a restored database has lost it.
        for row in &rows {
            self.note(row);
        }
        let midpoint = UnixMillis(sent.wall.0.midpoint(self.clock.now().0));
        let freshness = Arc::new(Freshness {
            as_of,
            cursor,
            sent,
            skew: midpoint.0.saturating_sub(as_of.0),
        });
        self.freshness.store(Some(freshness.clone()));
        self.ready.send_replace(true);
        drop(self.watchers.send(FeedEvent::Heartbeat(freshness)));
        Ok(())
    }

    async fn follow(&self, announcements: Option<Arc<dyn Announcements>>) {
        let Some(announcements) = announcements else { return };
        let mut messages = announcements.listen();
        while let Some(message) = messages.recv().await {
            match message {
                AnnouncementEvent::Revocations(revocations) => revocations.iter().for_each(|r| self.note(r)),
                AnnouncementEvent::Gap => self.reconcile_now.notify_one(),
            }
        }
    }

    async fn sweep_forever(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            self.index.sweep(self.capped_now());
        }
    }

    /// The earlier of the wall clock and the time that has passed since the start: a wall clock that jumps ahead for a
    /// moment must not make a revocation that is still needed look expired.
    #[must_use]
    pub fn capped_now(&self) -> UnixMillis {
        self.clock.read().capped_wall(self.created)
    }

    /// How far this machine's clock is from the store's, as of the last reconciliation.
    #[must_use]
    pub fn skew(&self) -> Option<Duration> {
        let freshness = self.freshness.load();
        let skew = freshness.as_ref()?.skew_millis();
        Some(Duration::from_millis(skew.unsigned_abs()))
    }

    /// Refuses to create or change anything while this machine's clock differs too much from the store's: it would begin or
    /// end at the wrong moment. `STORE_UNAVAILABLE`.
    pub fn check_skew(&self) -> Result<()> {
        match self.skew() {
            Some(skew) if skew > MAX_SKEW => Err(Error::store_unavailable(format!(
                "this machine's clock is {} ms from the store's",
                millis(skew)
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
