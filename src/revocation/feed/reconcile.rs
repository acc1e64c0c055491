//! Reading the durable record into the index.

use std::sync::Arc;

use super::{Feed, FeedEvent, RECONCILE_TIMEOUT};
use crate::clock::{ClockReading, UnixMillis};
use crate::model::{Error, Result};
use crate::revocation::Freshness;
use crate::revocation::index::LONGEST_TOKEN;
use crate::revocation::write_back::Replacement;
use crate::store::{Changes, Cursor, ReloadReason, RevocationStore, Snapshot};

impl Feed {
    /// Reads the new revocations from the durable record once, or all of them.
    pub async fn reconcile(&self, store: &dyn RevocationStore) -> Result<()> {
        let sent = self.clock.read();
        let pauses = self.pauses.tick(sent);
        let done = self.reconcile_at(sent, store).await;
        match done {
            Ok(()) => self.pauses.settle(pauses),
            // From then on `max_staleness` decides.
            Err(_) => self.pauses.give_up(pauses, sent),
        }
        done
    }

    async fn reconcile_at(&self, sent: ClockReading, store: &dyn RevocationStore) -> Result<()> {
        let mut replacement = self.replacement.lock().await;
        let cursor = match &*replacement {
            Some(replacement) => Some(replacement.cursor.clone()),
            None => self.last().map(|known| known.cursor.clone()),
        };
        let (snapshot, is_replaced) = self.read(cursor, sent, store).await?;
        let Snapshot {
            rows,
            cursor,
            as_of,
            side,
        } = snapshot;
        // Rows are only added: an acknowledged revocation stays in force even if a restored database has lost it.
        for row in &rows {
            self.note(row);
        }
        if is_replaced {
            *replacement = Some(Replacement::new(self.lost(&rows), cursor.clone()));
        }
        if let Some(open) = &mut *replacement {
            // Before anything is answered from the new database.
            open.cursor = cursor.clone();
            self.write_back(store, open).await?;
            *replacement = None;
        }
        self.sides.compare(side, sent.monotonic);
        let midpoint = UnixMillis(sent.wall.0.midpoint(self.clock.now().0));
        let freshness = Arc::new(Freshness {
            as_of,
            cursor,
            side,
            sent,
            skew: midpoint.0.saturating_sub(as_of.0),
        });
        self.freshness.store(Some(freshness.clone()));
        self.ready.send_replace(true);
        drop(self.watchers.send(FeedEvent::Heartbeat(freshness)));
        Ok(())
    }

    /// The rows after the cursor, or all of them, and whether another database has replaced the one of the cursor.
    async fn read(
        &self,
        cursor: Option<Cursor>,
        sent: ClockReading,
        store: &dyn RevocationStore,
    ) -> Result<(Snapshot, bool)> {
        let is_replaced = match cursor {
            Some(cursor) => match tokio::time::timeout(RECONCILE_TIMEOUT, store.revocations_since(&cursor))
                .await
                .map_err(|_| Error::store_unavailable("reconciliation timed out"))??
            {
                Changes::Since(snapshot) => return Ok((snapshot, false)),
                Changes::Reload(ReloadReason::Replaced) => {
                    // Pooled connections may lead to the server that was replaced.
                    store.reconnect();
                    true
                }
                Changes::Reload(ReloadReason::ManyNew) => {
                    tracing::info!("there are many new revocations; all are loaded again");
                    false
                }
            },
            None => false,
        };
        // Without a timeout: the revocations are read in parts, and each part has the store's own timeout.
        let all = store.load_revocations(sent.wall.minus(LONGEST_TOKEN)).await?;
        Ok((all, is_replaced))
    }
}
