//! The feed that keeps the index fresh: it loads the index, follows announcements and reconciles with the durable record.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, broadcast, watch};

use super::freshness::Freshness;
use super::index::{Index, retained_until};
use super::pause::PauseDetector;
use super::publishing::Publishing;
use super::side::SideComparison;
use super::unrecorded::Unrecorded;
use super::write_back::Replacement;
use crate::clock::{Clock, ClockReading, UnixMillis, millis};
use crate::config::{OnStale, Revocation as RevocationConfig};
use crate::model::{Error, ErrorKind, Result, Revocation};
use crate::secret::{Entropy, random};

/// How long one reconciliation may take before it counts as failed.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call waits, after a pause of this process, for revocations that were read since: a reconciliation that was under
/// way may time out first.
const SETTLE_TIMEOUT: Duration = RECONCILE_TIMEOUT.saturating_mul(2);

/// Shorter pauses of this process are not noticed: they are usual on a busy machine.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// How many events a slow watcher may fall behind before it is ended.
const WATCH_BUFFER: usize = 16_384;

/// The largest difference between this machine's clock and the store's at which anything is created or removed by it.
const MAX_SKEW: Duration = Duration::from_secs(5);

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
    /// What of the index was only announced.
    unrecorded: Unrecorded,
    /// A database that has replaced another one, until it has all revocations of the index.
    replacement: tokio::sync::Mutex<Option<Replacement>>,
    /// The last good reconciliation.
    freshness: ArcSwapOption<Freshness>,
    /// Starts the next reconciliation at once.
    reconcile_now: Notify,
    /// Notices that this process stood still.
    pauses: Arc<PauseDetector>,
    /// Notices that its tasks had to wait, whether it stood still or was too busy.
    delays: PauseDetector,
    /// Notices that this replica's database server was replaced by that of another replica.
    sides: SideComparison,
    /// The name of this replica among those that publish their servers.
    replica: String,
    watchers: broadcast::Sender<FeedEvent>,
    publishing: Publishing,
    ready: watch::Sender<bool>,
    /// Why the last attempt to load the index failed; none if none has failed, or since it is loaded.
    load_failure: watch::Sender<Option<Error>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// When the feed was created, by both clocks.
    created: ClockReading,
    config: RevocationConfig,
}

impl Feed {
    /// A feed whose index is not loaded yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, config: RevocationConfig) -> Arc<Self> {
        let longest_pause = config.reconcile_interval.max(SHORTEST_PAUSE);
        Arc::new(Self {
            pauses: Arc::new(PauseDetector::new(longest_pause)),
            delays: PauseDetector::new(longest_pause),
            sides: SideComparison::default(),
            replica: format!("{:032x}", u128::from_be_bytes(random(&*entropy))),
            entropy,
            index: Index::new(),
            unrecorded: Unrecorded::default(),
            replacement: tokio::sync::Mutex::default(),
            freshness: ArcSwapOption::empty(),
            reconcile_now: Notify::new(),
            watchers: broadcast::channel(WATCH_BUFFER).0,
            publishing: Publishing::default(),
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

    pub(super) fn unrecorded(&self) -> &Unrecorded {
        &self.unrecorded
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// The last good reconciliation, if it is fresh enough to answer from.
    ///
    /// # Errors
    /// `REVOCATIONS_STALE` if it is too old, unless `on_stale` is `serve`. Always before the first load, after a pause of this
    /// process until [`Feed::settle`] has waited for it, and while another database server has replaced this replica's.
    pub fn freshness(&self) -> Result<Arc<Freshness>> {
        let Some(freshness) = self.freshness.load_full() else {
            return Err(Error::revocations_stale().because("the index is not loaded yet"));
        };
        if let Err(superseded) = self.sides.check() {
            return Err(Error::revocations_stale().because(superseded));
        }
        let now = self.clock.read();
        if self.is_unsettled(&freshness, now) {
            return Err(
                Error::revocations_stale().because("this process stood still, and has read no revocations since")
            );
        }
        if self.config.on_stale == OnStale::Serve {
            return Ok(freshness);
        }
        let age = freshness.age_at(now);
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
        let now = self.clock.reading_at(now);
        match freshness.as_ref() {
            Some(freshness)
                if !self.sides.is_superseded()
                    && !self.is_unsettled(freshness, now)
                    && (self.config.on_stale == OnStale::Serve
                        || freshness.age_at(now) <= self.config.max_staleness) =>
            {
                Ok(freshness.as_of)
            }
            Some(_) | None => self.freshness().map(|freshness| freshness.as_of),
        }
    }

    /// Whether this process may have stood still after the reconciliation `freshness`, and the pause is not settled.
    fn is_unsettled(&self, freshness: &Freshness, now: ClockReading) -> bool {
        // Nearly always the first condition decides: no pause fits between a recent reconciliation and this moment.
        freshness.age_at(now) > self.config.reconcile_interval && self.pauses.is_pending(now)
    }

    /// Whether [`Feed::settle`] has something to wait for.
    fn is_pending(&self) -> bool {
        let freshness = self.freshness.load();
        freshness
            .as_ref()
            .is_some_and(|freshness| self.is_unsettled(freshness, self.clock.read()))
    }

    /// After a pause of this process, waits until the revocations were read by a question that was sent after the pause, or could
    /// not be read for a second; not for ever. Call it if [`Feed::as_of`] fails, and then ask that again.
    pub async fn settle(&self) {
        if !self.is_pending() {
            return;
        }
        let pauses = self.pauses.tick(self.clock.read());
        self.reconcile_now.notify_one();
        // If it takes too long, the caller finds that the pause is not settled.
        drop(tokio::time::timeout(SETTLE_TIMEOUT, self.pauses.until_settled(pauses)).await);
    }

    /// Notices pauses of this process in a thread, so that a process that is only busy does not take itself for one that stood
    /// still. Call it before [`Feed::run`]; without it a task notices them.
    pub fn notice_pauses_in_thread(&self) {
        self.pauses.tick_in_thread(self.clock.clone());
    }

    /// Whether a call that is worked on now may have waited longer than its caller has patience, because this process stood still or
    /// was too busy.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        self.delays.is_after_long(self.clock.read())
    }

    /// `STORE_UNAVAILABLE` after a long pause of this process, until the revocations were read: a caller that has given its call up
    /// must not find it done later.
    pub fn check_awake(&self) -> Result<()> {
        let now = self.clock.read();
        if self.delays.is_after_long(now) && self.pauses.is_pending(now) {
            return Err(Error::store_unavailable(
                "this process stood still, and the caller may have given the call up meanwhile",
            ));
        }
        Ok(())
    }

    /// `STORE_UNAVAILABLE` if another replica is connected to a database server that has replaced this replica's: what this
    /// one writes would be lost.
    pub fn check_side(&self) -> Result<()> {
        self.sides.check()
    }

    /// The last good reconciliation, however old; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Freshness>> {
        self.freshness.load_full()
    }

    /// Adds a revocation that was recorded by this replica, or read from the durable record. When this returns, it has been sent
    /// to the watchers, also if another task added it: the heartbeat that follows promises that. Returns whether it was news to
    /// this replica.
    pub fn note(&self, revocation: &Revocation) -> bool {
        let add = || {
            let is_needed = self.is_needed(revocation);
            if is_needed {
                self.unrecorded.record(revocation);
            }
            is_needed && self.index.insert(revocation)
        };
        self.publishing.publish(add, || self.tell(revocation))
    }

    /// Like [`Feed::note`], for one that was announced: it counts like the others, but is never written to the durable record.
    fn note_announced(&self, revocation: &Revocation) {
        let add = || {
            let is_needed = self.is_needed(revocation);
            if is_needed {
                let before = self.index.entry_of(&revocation.target);
                self.unrecorded.announce(revocation, before);
            }
            is_needed && self.index.insert(revocation)
        };
        self.publishing.publish(add, || self.tell(revocation));
    }

    fn is_needed(&self, revocation: &Revocation) -> bool {
        retained_until(revocation) >= self.capped_now()
    }

    fn tell(&self, revocation: &Revocation) {
        // An error only means that there are no watchers.
        drop(self.watchers.send(FeedEvent::Revocation(Arc::new(revocation.clone()))));
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

    /// Refuses to create or change anything while this machine's clock differs too much from the store's, because it would
    /// begin or end at the wrong moment, and while [`Feed::check_side`] or [`Feed::check_awake`] refuses. `STORE_UNAVAILABLE`.
    pub fn check_skew(&self) -> Result<()> {
        self.check_side()?;
        self.check_awake()?;
        match self.skew() {
            Some(skew) if skew > MAX_SKEW => Err(Error::store_unavailable(format!(
                "this machine's clock is {} ms from the store's",
                millis(skew)
            ))),
            _ => Ok(()),
        }
    }
}

mod reconcile;
mod tasks;
#[cfg(test)]
mod tests;
