//! The feed that keeps the index fresh: loads it, follows the announcements, reconciles with the durable record.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::freshness::Freshness;
use super::index::{Index, retained_until};
use crate::clock::{Clock, UnixMillis, millis};
use crate::model::{Error, ErrorKind, Result, Revocation};
use crate::store::{Announcements, Changes, Heard, RevocationStore, Snapshot};

/// What to answer when the index is older than `max_staleness`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// `REVOCATIONS_STALE`.
    FailClosed,
    /// From what is known.
    Serve,
}

/// How the feed works.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// How often the index is reconciled with the durable record.
    pub reconcile_interval: Duration,
    /// The oldest index that is answered from.
    pub max_staleness: Duration,
    /// What happens past that.
    pub on_stale: OnStale,
    /// How long one reconciliation may take.
    pub timeout: Duration,
}

/// How many changes a slow watcher may lag behind before it is ended.
const WATCH_BUFFER: usize = 16_384;

/// The most that this machine's clock may be from the store's for anything to be made or removed by it.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// How often entries that concern nothing any more are swept out of the index.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// What watchers are sent.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A revocation that is new to this replica.
    Revocation(Arc<Revocation>),
    /// The key ring changed.
    Keys,
    /// The index was reconciled.
    Heartbeat(Arc<Freshness>),
}

/// The index, and what keeps it fresh.
#[derive(Debug)]
pub struct Feed {
    index: Index,
    fresh: ArcSwapOption<Freshness>,
    hurry: Notify,
    watchers: broadcast::Sender<WatchItem>,
    /// Held while a revocation is added and told: who finds it there may rely on its having been told.
    telling: Mutex<()>,
    ready: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
    /// When the feed was made, by both clocks.
    made: (UnixMillis, Duration),
    config: FeedConfig,
}

impl Feed {
    /// A feed that has loaded nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, config: FeedConfig) -> Arc<Self> {
        Arc::new(Self {
            index: Index::new(),
            fresh: ArcSwapOption::empty(),
            hurry: Notify::new(),
            watchers: broadcast::channel(WATCH_BUFFER).0,
            telling: Mutex::default(),
            ready: watch::channel(false).0,
            made: (clock.now(), clock.monotonic()),
            clock,
            config,
        })
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How the feed works.
    #[must_use]
    pub fn config(&self) -> &FeedConfig {
        &self.config
    }

    /// The last good reconciliation, if it is fresh enough to answer from. `REVOCATIONS_STALE` if it is not; before the
    /// first load whatever `on_stale` says.
    pub fn freshness(&self) -> Result<Arc<Freshness>> {
        let Some(fresh) = self.fresh.load_full() else {
            return Err(stale().because("the index is not loaded yet"));
        };
        if self.config.on_stale == OnStale::Serve {
            return Ok(fresh);
        }
        let age = fresh.age(&*self.clock);
        if age > self.config.max_staleness {
            return Err(stale().because(format!("the last reconciliation is {} ms old", age.as_millis())));
        }
        Ok(fresh)
    }

    /// The `as_of` of [`Feed::freshness`], at the moment `now` of the wall clock: what every Validate asks first, so it
    /// takes no count of who holds the answer.
    pub fn as_of(&self, now: UnixMillis) -> Result<UnixMillis> {
        let fresh = self.fresh.load();
        match fresh.as_ref() {
            Some(fresh)
                if self.config.on_stale == OnStale::Serve
                    || fresh.age_at(now, self.clock.monotonic()) <= self.config.max_staleness =>
            {
                Ok(fresh.as_of)
            }
            Some(_) | None => self.freshness().map(|fresh| fresh.as_of),
        }
    }

    /// The last good reconciliation, however old; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Freshness>> {
        self.fresh.load_full()
    }

    /// Adds what this replica has just recorded itself. Watchers have been sent it when this returns, also where another
    /// task was adding it: the heartbeat that follows says so.
    pub fn note(&self, revocation: &Revocation) {
        let _telling = self.telling.lock();
        if retained_until(revocation) >= self.cautious_now() && self.index.insert(revocation) {
            // An error only says that nobody watches.
            drop(self.watchers.send(WatchItem::Revocation(Arc::new(revocation.clone()))));
        }
    }

    /// Tells watchers that the key ring changed.
    pub fn keys_changed(&self) {
        drop(self.watchers.send(WatchItem::Keys));
    }

    /// Everything from now on. Subscribe first, read [`Feed::last`] and the index then: nothing falls between.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<WatchItem> {
        self.watchers.subscribe()
    }

    /// Waits until the index has been loaded.
    pub async fn loaded(&self) {
        // The sender lives in self, so the channel cannot close while we wait.
        drop(self.ready.subscribe().wait_for(|ready| *ready).await);
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
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(reconcile, follow, sweep); } => {}
        }
    }

    async fn reconcile_forever(&self, store: &dyn RevocationStore) {
        let mut failing = false;
        loop {
            let done = self.reconcile(store).await;
            let outcome = if done.is_ok() { "done" } else { "failed" };
            metrics::counter!("countersign_reconciliations_total", "outcome" => outcome).increment(1);
            match done {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("revocations are fresh again");
                }
                // Once per outage: every interval would bury the cause.
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "revocations cannot be reconciled; answering from what is known until max_staleness");
                }
                Ok(()) | Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.reconcile_interval) => {}
                () = self.hurry.notified() => {}
            }
        }
    }

    /// Asks the durable record once for what is new, or for everything.
    pub async fn reconcile(&self, store: &dyn RevocationStore) -> Result<()> {
        let (sent, sent_wall) = (self.clock.monotonic(), self.clock.now());
        let known = self.fresh.load_full();
        let changes = match &known {
            Some(known) => tokio::time::timeout(self.config.timeout, store.revocations_since(&known.cursor))
                .await
                .map_err(|_| Error::store_unavailable("reconciliation timed out"))??,
            None => Changes::Reload,
        };
        let snapshot = match changes {
            Changes::Since(snapshot) => snapshot,
            Changes::Reload => {
                if known.is_some() {
                    tracing::warn!("the database is another one, or much is new: every revocation is loaded again");
                }
                // As long as it takes: it is read in parts, of which each has the store's own timeout.
                store
                    .load_revocations(sent_wall.minus(super::index::LONGEST_TOKEN))
                    .await?
            }
        };
        let Snapshot { rows, cursor, as_of } = snapshot;
        // Rows are only ever added: what was acknowledged stays revoked even where a restored database forgot it.
        for row in &rows {
            self.note(row);
        }
        let midpoint = UnixMillis(sent_wall.0.midpoint(self.clock.now().0));
        let fresh = Arc::new(Freshness {
            as_of,
            cursor,
            sent,
            sent_wall,
            skew: midpoint.0.saturating_sub(as_of.0),
        });
        self.fresh.store(Some(fresh.clone()));
        self.ready.send_replace(true);
        drop(self.watchers.send(WatchItem::Heartbeat(fresh)));
        Ok(())
    }

    async fn follow(&self, announcements: Option<Arc<dyn Announcements>>) {
        let Some(announcements) = announcements else { return };
        let mut heard = announcements.listen();
        while let Some(message) = heard.recv().await {
            match message {
                Heard::Revocations(revocations) => revocations.iter().for_each(|r| self.note(r)),
                Heard::Gap => self.hurry.notify_one(),
            }
        }
    }

    async fn sweep_forever(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            self.index.sweep(self.cautious_now());
        }
    }

    /// The earlier of what the wall clock says and what has passed since the start: a clock that leaps ahead for a
    /// moment must not make a revocation that is still needed look forgotten.
    #[must_use]
    pub fn cautious_now(&self) -> UnixMillis {
        let (wall, monotonic) = self.made;
        self.clock
            .now()
            .min(wall.plus(self.clock.monotonic().saturating_sub(monotonic)))
    }

    /// How far this machine's clock is from the store's, as of the last reconciliation.
    #[must_use]
    pub fn skew(&self) -> Option<Duration> {
        self.fresh
            .load()
            .as_ref()
            .map(|f| Duration::from_millis(f.skew_millis().unsigned_abs()))
    }

    /// Refuses to make or move anything while this machine's clock is far from the store's: what is timed by it would
    /// begin or end at the wrong moment. `STORE_UNAVAILABLE`.
    pub fn check_skew(&self) -> Result<()> {
        match self.skew() {
            Some(skew) if skew > MAX_SKEW => Err(Error::store_unavailable(format!(
                "this machine's clock is {} ms from the store's",
                millis(skew)
            ))),
            _ => Ok(()),
        }
    }

    /// How long the caller may keep an answer: until the token expires or one interval after `as_of`.
    #[must_use]
    pub fn cache_until(&self, as_of: UnixMillis, expires: UnixMillis) -> UnixMillis {
        expires.min(as_of.plus(self.config.reconcile_interval))
    }
}

fn stale() -> Error {
    Error::from(ErrorKind::RevocationsStale).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
