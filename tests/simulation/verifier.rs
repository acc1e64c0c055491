//! Verifiers: other processes that follow a replica's feed and validate from memory, like those of the client library.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign::clock::{Clock as _, ClockReading, UnixMillis};
use countersign::keys::verifying::VerifyingKeys;
use countersign::model::{Error, Result};
use countersign::revocation::{Index, Watch, WatchEvent};
use countersign::validator::{TokenValidator, TrustState, ValidatorConfig};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::replica::{Replica, issuer};
use crate::sim::SimClock;
use crate::support::random::Random;

/// A stream that is silent for this long has lost its connection.
const SILENCE: Duration = Duration::from_secs(3);

const MAX_STALENESS: Duration = Duration::from_secs(5);

/// What a verifier was told.
struct Knowledge {
    index: Arc<Index>,
    keys: Arc<VerifyingKeys>,
    /// `as_of` of the last heartbeat, its age on arrival, and when it arrived.
    heartbeat: Option<(UnixMillis, Duration, ClockReading)>,
}

/// The keys and revocations of a verifier.
#[derive(Clone)]
pub(crate) struct Trust(Arc<Followed>);

struct Followed {
    clock: Arc<SimClock>,
    known: Mutex<Knowledge>,
    keys_version: AtomicU64,
}

impl TrustState for Trust {
    fn keys_version(&self) -> u64 {
        self.0.keys_version.load(Ordering::Acquire)
    }

    fn keys(&self) -> (Arc<VerifyingKeys>, u64) {
        let version = self.keys_version();
        (self.0.known.lock().keys.clone(), version)
    }

    fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R {
        let index = self.0.known.lock().index.clone();
        read(&index)
    }

    fn as_of(&self, now: UnixMillis) -> Result<UnixMillis> {
        let heartbeat = self.0.known.lock().heartbeat;
        let (as_of, age, arrived) = heartbeat.ok_or_else(Error::revocations_stale)?;
        let age = age + self.0.clock.reading_at(now).since(arrived);
        if age > MAX_STALENESS {
            return Err(Error::revocations_stale());
        }
        Ok(as_of)
    }
}

/// A verifier.
pub(crate) struct Verifier {
    pub(crate) validator: TokenValidator<Trust>,
    trust: Trust,
}

impl Verifier {
    pub(crate) fn new(clock: Arc<SimClock>) -> Arc<Self> {
        let trust = Trust(Arc::new(Followed {
            clock: clock.clone(),
            known: Mutex::new(Knowledge {
                index: Arc::default(),
                keys: Arc::default(),
                heartbeat: None,
            }),
            keys_version: AtomicU64::new(0),
        }));
        let config = ValidatorConfig {
            issuer: issuer().to_owned(),
            leeway: Duration::from_secs(5),
            cache_bytes: 64 * 1024,
            answer_ttl: Duration::ZERO,
        };
        Arc::new(Self {
            validator: TokenValidator::new(trust.clone(), clock, config),
            trust,
        })
    }

    /// Follows the feed of some replica, and of another one when the stream breaks off.
    pub(crate) async fn follow(self: Arc<Self>, replicas: Vec<Arc<Replica>>, mut dice: Random) {
        let mut resume_token = String::new();
        loop {
            let replica = &replicas[dice.below(replicas.len())];
            if let Some(running) = replica.running() {
                let life = running.life.clone();
                tokio::select! {
                    biased;
                    () = life.ended() => {}
                    () = self.follow_once(replica, &mut resume_token, &mut dice) => {}
                }
            }
            sleep(dice.millis(20, 200)).await;
        }
    }

    async fn follow_once(&self, replica: &Replica, resume_token: &mut String, dice: &mut Random) {
        let Some(running) = replica.running() else { return };
        let app = &running.app;
        let Ok(mut watch) = Watch::start(app.feed.clone(), &*app.stores.durable, resume_token).await else {
            return;
        };
        let mut snapshot: Option<Index> = None;
        let events = 5 + dice.below(40);
        for _ in 0..events {
            let Ok(Ok(event)) = timeout(SILENCE, watch.next(&*replica.clock)).await else {
                return;
            };
            // The message is on its way.
            sleep(dice.millis(0, 20)).await;
            let mut known = self.trust.0.known.lock();
            match event {
                WatchEvent::Keys => {
                    known.keys = app.keys.current().verifying().clone();
                    self.trust.0.keys_version.fetch_add(1, Ordering::AcqRel);
                }
                WatchEvent::Snapshot { rows, last } => {
                    let index = snapshot.get_or_insert_with(Index::new);
                    for row in &rows {
                        index.insert(row);
                    }
                    if last {
                        known.index = Arc::new(snapshot.take().unwrap_or_default());
                    }
                }
                WatchEvent::Revocation(revocation) => {
                    known.index.insert(&revocation);
                }
                WatchEvent::Heartbeat { as_of, cursor, now } => {
                    known.heartbeat = Some((as_of, now.since(as_of), self.trust.0.clock.read()));
                    *resume_token = cursor.0;
                }
            }
        }
    }
}
