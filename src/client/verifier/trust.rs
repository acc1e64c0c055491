//! The keys and revocations of the service, as its feed tells them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::follow::follow;
use super::numbered_keys::NumberedKeys;
use crate::client::Client;
use crate::clock::{Clock, ClockReading, UnixMillis};
use crate::keys::verifying::VerifyingKeys;
use crate::model::{Error, Result};
use crate::revocation::{Index, PauseDetector};
use crate::validator::TrustState;

/// The service sends a heartbeat each second. A longer pause of this process may hide a revocation.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the keys and revocations of a service. Dropping it ends that.
pub struct TrustFollower {
    trust: Arc<FollowedTrust>,
    _task: AbortOnDropHandle<()>,
}

impl TrustFollower {
    /// Starts to follow the service through `client`. Answers are given while the last heartbeat is at most `max_staleness`
    /// old. Call it within a tokio runtime.
    #[must_use]
    pub fn start(client: Client, max_staleness: Duration) -> Self {
        let trust = Arc::new(FollowedTrust {
            clock: client.clock().clone(),
            max_staleness,
            keys: NumberedKeys::default(),
            index: ArcSwap::default(),
            freshness: ArcSwapOption::empty(),
            pauses: Arc::new(PauseDetector::new(HEARTBEAT_INTERVAL)),
            delays: PauseDetector::new(HEARTBEAT_INTERVAL),
            ready: watch::channel(false).0,
        });
        trust.pauses.tick_in_thread(trust.clock.clone());
        let followed = Arc::clone(&trust);
        let task = tokio::spawn(async move {
            tokio::join!(
                follow(client, Arc::clone(&followed)),
                followed.pauses.tick_forever(&*followed.clock),
                followed.delays.tick_forever(&*followed.clock)
            );
        });
        Self {
            trust,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Waits until the first snapshot is complete.
    pub async fn ready(&self) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        drop(self.trust.ready.subscribe().wait_for(|ready| *ready).await);
    }

    /// Whether the first snapshot is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.trust.ready.borrow()
    }

    /// How old the knowledge of revocations is; none before the first snapshot.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let trust = &self.trust;
        let freshness = trust.freshness.load();
        Some(freshness.as_ref()?.age(trust.clock.read()))
    }
}

/// Without the keys and revocations, which may be many.
impl fmt::Debug for TrustFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustFollower")
            .field("is_ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

impl TrustState for TrustFollower {
    fn keys_version(&self) -> u64 {
        self.trust.keys.version()
    }

    fn keys(&self) -> (Arc<VerifyingKeys>, u64) {
        self.trust.keys.get()
    }

    fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R {
        read(&self.trust.index.load())
    }

    fn as_of(&self, now: UnixMillis) -> Result<UnixMillis> {
        let freshness = self.trust.freshness.load();
        let now = self.trust.clock.reading_at(now);
        match freshness.as_ref() {
            Some(freshness) if self.trust.is_fresh(freshness, now) => Ok(freshness.as_of),
            // The last heartbeat is too old, the first snapshot is not complete, or this process stood still.
            Some(_) | None => Err(Error::revocations_stale()),
        }
    }
}

/// What the feed has told so far.
pub(super) struct FollowedTrust {
    pub(super) clock: Arc<dyn Clock>,
    max_staleness: Duration,
    keys: NumberedKeys,
    pub(super) index: ArcSwap<Index>,
    freshness: ArcSwapOption<Freshness>,
    /// Notices that this process stood still. A pause is settled by a heartbeat of a stream that was opened after it, because
    /// those of the previous one waited in its socket; or by the failure to open one for a second.
    pub(super) pauses: Arc<PauseDetector>,
    /// Notices that the tasks of this process had to wait, so that the age of a heartbeat is not known.
    pub(super) delays: PauseDetector,
    ready: watch::Sender<bool>,
}

impl FollowedTrust {
    /// Replaces the key set.
    pub(super) fn set_keys(&self, keys: VerifyingKeys) {
        self.keys.set(keys);
    }

    fn is_fresh(&self, freshness: &Freshness, now: ClockReading) -> bool {
        let age = freshness.age(now);
        age <= self.max_staleness && (age <= HEARTBEAT_INTERVAL || !self.pauses.is_pending(now))
    }

    /// Notes a heartbeat: from the first one on, answers can be given.
    pub(super) fn set_freshness(&self, freshness: Freshness) {
        self.freshness.store(Some(Arc::new(freshness)));
        self.ready.send_replace(true);
    }

    /// Gives no answers until the next heartbeat. Returns whether there were answers until now.
    pub(super) fn forget_freshness(&self) -> bool {
        self.freshness.swap(None).is_some()
    }
}

/// What the last heartbeat said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    /// Every revocation that was acknowledged before this moment of the service's clock is known.
    pub(super) as_of: UnixMillis,
    /// Its age on arrival, by the service's clocks.
    pub(super) age_on_arrival: Duration,
    /// When it arrived.
    pub(super) arrived: ClockReading,
}

impl Freshness {
    fn age(&self, now: ClockReading) -> Duration {
        self.age_on_arrival + now.since(self.arrived)
    }
}
