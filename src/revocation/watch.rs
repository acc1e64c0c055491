//! A watcher of the feed: a snapshot or the missed revocations, then each event as it happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::feed::{Feed, FeedEvent};
use super::freshness::Freshness;
use super::index::{SnapshotCursor, retained_until};
use crate::clock::{Clock, UnixMillis};
use crate::model::{Error, ErrorKind, Result, Revocation};
use crate::store::{Changes, Cursor, RevocationStore};

/// How often a watcher gets a heartbeat if there is no reconciliation.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// An event for a watcher.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The key ring changed. Also the first event of a watcher.
    Keys,
    /// A part of the snapshot of all revocations, of at most 256 KiB as a message. With the last part the snapshot replaces
    /// what the watcher knew.
    Snapshot {
        /// The revocations of this part.
        rows: Vec<Revocation>,
        /// Whether this is the last part.
        last: bool,
    },
    /// A new revocation.
    Revocation(Arc<Revocation>),
    /// Every revocation acknowledged before `as_of` has been sent.
    Heartbeat {
        /// A moment of the store's clock.
        as_of: UnixMillis,
        /// The resume token, valid on any replica.
        cursor: Cursor,
        /// `as_of` plus the age that this replica counts.
        now: UnixMillis,
    },
}

/// A watcher of the feed.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    items: Receiver<FeedEvent>,
    fresh: Arc<Freshness>,
    stage: Stage,
    ticks: Interval,
}

#[derive(Debug)]
enum Stage {
    Keys { missed: Option<Vec<Revocation>> },
    Snapshot(SnapshotCursor),
    Missed(std::vec::IntoIter<Revocation>),
    FirstHeartbeat,
    Live,
}

impl Watch {
    /// Starts to watch: from the resume token if there is one that the store still knows, else with a snapshot.
    ///
    /// # Errors
    /// `RESUME_TOKEN_INVALID` for an unreadable token, `REVOCATIONS_STALE` before the first load.
    pub async fn start(feed: Arc<Feed>, store: &dyn RevocationStore, resume: &str) -> Result<Self> {
        // Subscribed before anything is read, so that no event is missed.
        let items = feed.subscribe();
        let fresh = feed.freshness()?;
        let missed = if resume.is_empty() {
            None
        } else {
            match store.revocations_since(&Cursor(resume.to_owned())).await? {
                Changes::Since(snapshot) => Some(snapshot.rows),
                Changes::Reload(_) => None,
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

    /// The next event. `OVERLOADED` ends a watcher that is too slow for the shared buffer.
    pub async fn next(&mut self, clock: &dyn Clock) -> Result<WatchEvent> {
        loop {
            match &mut self.stage {
                Stage::Keys { missed } => {
                    self.stage = match missed.take() {
                        Some(rows) => Stage::Missed(rows.into_iter()),
                        None => Stage::Snapshot(SnapshotCursor::default()),
                    };
                    return Ok(WatchEvent::Keys);
                }
                Stage::Snapshot(cursor) => {
                    let rows = self.feed.index().snapshot_part(cursor);
                    let last = cursor.is_at_end();
                    if last {
                        self.stage = Stage::FirstHeartbeat;
                    }
                    return Ok(WatchEvent::Snapshot { rows, last });
                }
                Stage::Missed(rows) => match rows.find(|row| retained_until(row) >= clock.now()) {
                    Some(row) => return Ok(WatchEvent::Revocation(Arc::new(row))),
                    None => self.stage = Stage::FirstHeartbeat,
                },
                Stage::FirstHeartbeat => {
                    self.stage = Stage::Live;
                    return Ok(self.heartbeat(clock));
                }
                Stage::Live => {
                    let event = self.live(clock).await?;
                    // A heartbeat from a database server that was replaced would say that no revocation is missing.
                    self.feed.check_side()?;
                    return Ok(event);
                }
            }
        }
    }

    async fn live(&mut self, clock: &dyn Clock) -> Result<WatchEvent> {
        tokio::select! {
            biased;
            item = self.items.recv() => match item {
                Ok(FeedEvent::Revocation(revocation)) => Ok(WatchEvent::Revocation(revocation)),
                Ok(FeedEvent::Keys) => Ok(WatchEvent::Keys),
                Ok(FeedEvent::Heartbeat(fresh)) => {
                    self.fresh = fresh;
                    self.ticks.reset();
                    Ok(self.heartbeat(clock))
                }
                Err(RecvError::Lagged(missed)) => Err(Error::from(ErrorKind::Overloaded)
                    .because(format!("a watcher fell {missed} messages behind"))),
                Err(RecvError::Closed) => Err(ErrorKind::ShuttingDown.into()),
            },
            // There was no reconciliation: repeat the last one, with its present age.
            _ = self.ticks.tick() => Ok(self.heartbeat(clock)),
        }
    }

    fn heartbeat(&self, clock: &dyn Clock) -> WatchEvent {
        let as_of = self.fresh.as_of;
        WatchEvent::Heartbeat {
            as_of,
            cursor: self.fresh.cursor.clone(),
            now: as_of.plus(self.fresh.age(clock)),
        }
    }
}

#[cfg(test)]
mod tests;
