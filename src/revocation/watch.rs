//! One watcher of the feed: a snapshot or what was missed, then everything as it comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::feed::{Feed, WatchItem};
use super::freshness::Freshness;
use super::index::retained_until;
use crate::clock::{Clock, UnixMillis};
use crate::model::{Error, ErrorKind, Result, Revocation};
use crate::store::{Changes, Cursor, RevocationStore};

/// How often a watcher hears how fresh the feed is.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum Watched {
    /// The key ring is new: send it. The first thing a watcher is told.
    Keys,
    /// A part of all that is revoked; `last` ends the snapshot, which then replaces what the watcher knew.
    Snapshot {
        /// The part.
        rows: Vec<Revocation>,
        /// Whether it is the last.
        last: bool,
    },
    /// One more revocation.
    Event(Arc<Revocation>),
    /// Everything acknowledged before `as_of` has been sent.
    Heartbeat {
        /// By the store's clock.
        as_of: UnixMillis,
        /// What to resume from, on any replica.
        cursor: Cursor,
        /// `as_of` plus the age that this replica counts.
        now: UnixMillis,
    },
}

/// A watcher.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    items: Receiver<WatchItem>,
    fresh: Arc<Freshness>,
    stage: Stage,
    ticks: Interval,
}

#[derive(Debug)]
enum Stage {
    Keys { missed: Option<Vec<Revocation>> },
    Snapshot(usize),
    Missed(std::vec::IntoIter<Revocation>),
    First,
    Live,
}

impl Watch {
    /// Starts to watch: from the resume token's place if there is one and the store still knows it, else with a
    /// snapshot. `RESUME_TOKEN_INVALID` for garbage, `REVOCATIONS_STALE` before the first load.
    pub async fn start(feed: Arc<Feed>, store: &dyn RevocationStore, resume: &str) -> Result<Self> {
        // Subscribed before anything is read, so that nothing falls between.
        let items = feed.subscribe();
        let fresh = feed.freshness()?;
        let missed = if resume.is_empty() {
            None
        } else {
            match store.revocations_since(&Cursor(resume.to_owned())).await? {
                Changes::Since(snapshot) => Some(snapshot.rows),
                Changes::Reload => None,
            }
        };
        let mut ticks = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            feed,
            items,
            fresh,
            stage: Stage::Keys { missed },
            ticks,
        })
    }

    /// The next thing to tell. `OVERLOADED` ends a watcher that is too slow for the shared buffer.
    pub async fn next(&mut self, clock: &dyn Clock) -> Result<Watched> {
        loop {
            match &mut self.stage {
                Stage::Keys { missed } => {
                    self.stage = match missed.take() {
                        Some(rows) => Stage::Missed(rows.into_iter()),
                        None => Stage::Snapshot(0),
                    };
                    return Ok(Watched::Keys);
                }
                Stage::Snapshot(n) => {
                    let rows = self.feed.index().chunk(*n);
                    *n += 1;
                    let last = *n == super::index::CHUNKS;
                    if last {
                        self.stage = Stage::First;
                    }
                    if last || !rows.is_empty() {
                        return Ok(Watched::Snapshot { rows, last });
                    }
                }
                Stage::Missed(rows) => match rows.find(|row| retained_until(row) >= clock.now()) {
                    Some(row) => return Ok(Watched::Event(Arc::new(row))),
                    None => self.stage = Stage::First,
                },
                Stage::First => {
                    self.stage = Stage::Live;
                    return Ok(self.heartbeat(clock));
                }
                Stage::Live => return self.live(clock).await,
            }
        }
    }

    async fn live(&mut self, clock: &dyn Clock) -> Result<Watched> {
        tokio::select! {
            biased;
            item = self.items.recv() => match item {
                Ok(WatchItem::Revocation(revocation)) => Ok(Watched::Event(revocation)),
                Ok(WatchItem::Keys) => Ok(Watched::Keys),
                Ok(WatchItem::Heartbeat(fresh)) => {
                    self.fresh = fresh;
                    self.ticks.reset();
                    Ok(self.heartbeat(clock))
                }
                Err(RecvError::Lagged(missed)) => Err(Error::from(ErrorKind::Overloaded)
                    .because(format!("a watcher fell {missed} messages behind"))),
                Err(RecvError::Closed) => Err(ErrorKind::ShuttingDown.into()),
            },
            // The record cannot be asked: say again what is known, and how old it is by now.
            _ = self.ticks.tick() => Ok(self.heartbeat(clock)),
        }
    }

    fn heartbeat(&self, clock: &dyn Clock) -> Watched {
        let as_of = self.fresh.as_of;
        Watched::Heartbeat {
            as_of,
            cursor: self.fresh.cursor.clone(),
            now: as_of.plus(self.fresh.age(clock)),
        }
    }
}
