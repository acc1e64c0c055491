//! The tasks of the feed, which run until the service stops.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::config::OnStale;
use crate::model::Revocation;
use crate::revocation::Freshness;
use crate::store::{AnnouncementEvent, Announcements, RevocationStore};

/// How often entries that concern no unexpired token are removed from the index.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The time between two attempts to read the revocations after a pause of this process.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How often the age of the revocations is looked at, for the log.
const STALENESS_INTERVAL: Duration = Duration::from_secs(1);

/// How far ahead of this machine's clock an announced revocation may be.
const MAX_AHEAD: Duration = Duration::from_mins(5);

/// A server that was not read for longer is not published: this replica may be the last one that knows it.
const MAX_SIDE_AGE: Duration = Duration::from_secs(10);

impl Feed {
    /// Loads the index and keeps it fresh until `stop`.
    pub async fn run(
        self: Arc<Self>,
        store: Arc<dyn RevocationStore>,
        announcements: Option<Arc<dyn Announcements>>,
        stop: CancellationToken,
    ) {
        let reconcile = self.reconcile_forever(&*store);
        let compare_sides = self.compare_sides_forever(&*store, announcements.clone());
        let follow = self.follow(announcements);
        let ticks = self.tick_forever();
        let sweep = self.sweep_forever();
        let staleness = self.log_staleness();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = async { tokio::join!(reconcile, compare_sides, follow, ticks, sweep, staleness); } => {}
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
            if self.pauses.is_pending(self.clock.read()) {
                // Each call that waits for it asks for a reconciliation: they must not follow each other without a pause.
                tokio::time::sleep(RETRY_INTERVAL.min(self.config.reconcile_interval)).await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.reconcile_now.notified() => {}
                () = tokio::time::sleep(self.config.reconcile_interval) => {}
            }
        }
    }

    /// Logs when the revocations become too old to validate tokens by them, and when they are fresh again. The calls that are
    /// refused meanwhile are counted only.
    async fn log_staleness(&self) {
        let mut stale_since = None;
        loop {
            tokio::time::sleep(STALENESS_INTERVAL).await;
            let is_old = |freshness: &Freshness| freshness.age(&*self.clock) > self.config.max_staleness;
            let is_stale =
                self.config.on_stale == OnStale::FailClosed && self.last().is_some_and(|freshness| is_old(&freshness));
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

    async fn follow(&self, announcements: Option<Arc<dyn Announcements>>) {
        let Some(announcements) = announcements else { return };
        let mut messages = announcements.listen();
        while let Some(message) = messages.recv().await {
            match message {
                AnnouncementEvent::Revocations(revocations) => {
                    // One of the future comes from a clock that is wrong, or from a forger. If it is true, the database has it.
                    let latest = self.capped_now().plus(MAX_AHEAD);
                    let credible = |row: &&Revocation| row.epoch <= latest.0 && row.revoked <= latest;
                    revocations
                        .iter()
                        .filter(credible)
                        .for_each(|row| self.note_announced(row));
                }
                AnnouncementEvent::Gap => self.reconcile_now.notify_one(),
            }
        }
    }

    /// Looks for pauses of this process, and has the revocations read after each.
    async fn tick_forever(&self) {
        let reconcile = async {
            let mut pauses = 0;
            loop {
                self.pauses.until_noticed_after(pauses).await;
                pauses = self.pauses.tick(self.clock.read());
                self.reconcile_now.notify_one();
                tracing::info!("this process stood still; calls wait until the revocations are read again");
            }
        };
        tokio::join!(
            self.pauses.tick_forever(&*self.clock),
            self.delays.tick_forever(&*self.clock),
            reconcile
        );
    }

    /// Publishes this replica's database server at the pace of the reconciliations, and compares it with those of the others.
    /// While Redis is away, those that were last known count for a while.
    async fn compare_sides_forever(&self, store: &dyn RevocationStore, announcements: Option<Arc<dyn Announcements>>) {
        let Some(announcements) = announcements else { return };
        loop {
            let recent = self
                .last()
                .filter(|freshness| freshness.age(&*self.clock) < MAX_SIDE_AGE);
            if let Some(own) = recent.and_then(|freshness| freshness.side) {
                match announcements.publish_side(&self.replica, own).await {
                    Ok(published) => {
                        // It may have moved to another server meanwhile.
                        let own = self.last().and_then(|freshness| freshness.side).unwrap_or(own);
                        self.sides.note(own, &published, self.clock.monotonic());
                    }
                    Err(error) => tracing::debug!(%error, "cannot compare the database servers of the replicas"),
                }
                if self.sides.is_superseded() {
                    store.reconnect();
                }
            }
            tokio::time::sleep(self.config.reconcile_interval).await;
        }
    }

    async fn sweep_forever(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let now = self.capped_now();
            self.index.sweep(now);
            self.unrecorded.sweep(now);
        }
    }
}
