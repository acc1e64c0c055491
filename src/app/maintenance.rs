//! What goes on in the background: keys, clean-up, the counters that notice a restored backup.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::services::{App, peppers};
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Result};
use crate::secret::random;

/// How often expired rows are removed, in small batches.
const CLEAN_UP: Duration = Duration::from_mins(1);

/// How many rows one batch of the clean-up removes.
const BATCH: u32 = 1000;

/// How often the counters of the store of sessions are compared, besides at each reconnection.
const COUNTERS: Duration = Duration::from_mins(1);

/// Between two tries to compare them after a reconnection.
const AGAIN: Duration = Duration::from_secs(1);

/// By how many steps a counter may be behind what is stored: a failover loses a few, a backup many.
const LOST_STEPS: i64 = 5;

/// Starts everything that goes on in the background until `stop`.
pub(super) fn start(app: &Arc<App>, tasks: &TaskTracker, stop: &CancellationToken) {
    let feed = app.feed.clone().run(
        app.stores.durable.clone(),
        app.stores.announcements.clone(),
        stop.clone(),
    );
    tasks.spawn(feed);
    tasks.spawn(repeat(
        app.clone(),
        stop.clone(),
        "keys",
        |app| app.keys.pause(),
        |app| async move { keys(&app).await },
    ));
    tasks.spawn(repeat(
        app.clone(),
        stop.clone(),
        "clean-up",
        |app| about(CLEAN_UP, app),
        |app| async move { clean_up(&app).await },
    ));
    tasks.spawn(repeat(
        app.clone(),
        stop.clone(),
        "counters",
        |app| about(COUNTERS, app),
        |app| async move { counters(&app).await },
    ));
    if let Some(reconnections) = app.stores.sessions.reconnections() {
        tasks.spawn(compare_at_reconnections(app.clone(), stop.clone(), reconnections));
    }
    tasks.spawn(announce_keys(app.clone(), stop.clone()));
}

/// This span ± 10 %, so that replicas do not march in step.
fn about(every: Duration, app: &App) -> Duration {
    let unit = f64::from(random::<1>(&*app.stores.entropy)[0]) / 255.0;
    every.mul_f64(0.9 + 0.2 * unit)
}

/// Runs `work` again and again, each time after a `pause`. One warning an outage.
async fn repeat<F>(
    app: Arc<App>,
    stop: CancellationToken,
    name: &'static str,
    pause: impl Fn(&App) -> Duration,
    work: impl Fn(Arc<App>) -> F,
) where
    F: Future<Output = Result<()>>,
{
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause(&app)) => {}
        }
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = work(app.clone()) => done,
        };
        match done {
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, task = name, "a background task failed; it is tried again");
            }
            Ok(()) if failing => {
                failing = false;
                tracing::info!(task = name, "a background task works again");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Looks after the keys, unless this machine's clock is far from the store's: what it would write or remove by that
/// clock, others could not undo.
async fn keys(app: &App) -> Result<()> {
    // Following the others harms nobody, and their keys are not to be looked up by a clock that is ahead.
    app.keys.reload().await?;
    app.feed.check_skew()?;
    app.keys.tick().await
}

async fn clean_up(app: &App) -> Result<()> {
    app.feed.check_skew()?;
    while app.stores.durable.purge_revocations(BATCH).await? == BATCH {}
    while app.stores.sessions.purge_sessions(BATCH).await? == BATCH {}
    let before = app.feed.cautious_now().minus(app.audit_retention);
    while app.stores.durable.purge_audit(before, BATCH).await? == BATCH {}
    Ok(())
}

/// Advances the counters in the store of sessions first and stores them durably then: one that is far behind what was
/// stored tells that the store came back from an old backup, and every record in it is of another era.
pub(super) async fn counters(app: &App) -> Result<()> {
    let (era, known) = app.stores.durable.era().await?;
    let Ok(advanced) = app.stores.sessions.advance_counters(&known).await else {
        // A store that is down has not come back from anything yet.
        return Ok(());
    };
    if advanced.is_empty() {
        return Ok(());
    }
    let behind = advanced.iter().find_map(|(name, value)| {
        let stored = known.iter().find(|(known, _)| known == name)?.1;
        (stored - value > LOST_STEPS).then(|| (name.clone(), stored - value))
    });
    let lost = behind.map(|(master, steps)| {
        tracing::error!(%master, steps, "the store of sessions came back from an old backup: every session ends");
        AuditEvent::new(
            AuditType::SessionsLost,
            &master,
            &Origin::system(),
            app.stores.clock.now(),
            &*app.stores.entropy,
        )
        .with_detail("steps", steps)
    });
    app.stores.durable.store_counters(&advanced, lost.as_ref(), era).await?;
    if lost.is_some() {
        // Only now: a crash before this finds the same loss again, and ends sessions once too often rather than never.
        app.stores.sessions.raise_counters(&known).await?;
    }
    Ok(())
}

/// Compares the counters whenever the store of sessions was connected to again: that is when it may have come back from a
/// backup, and its old sessions must not live for a minute.
async fn compare_at_reconnections(app: Arc<App>, stop: CancellationToken, mut reconnections: watch::Receiver<u64>) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = reconnections.changed() => if changed.is_err() { return },
        }
        while let Err(error) = counters(&app).await {
            tracing::debug!(%error, "the counters of the store of sessions cannot be compared yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

/// Tells watchers of each new key ring, and the hashing pool of its peppers.
async fn announce_keys(app: Arc<App>, stop: CancellationToken) {
    let mut versions = app.keys.watch();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = versions.changed() => {
                if changed.is_err() {
                    return;
                }
                app.feed.keys_changed();
                app.hashing.set_peppers(peppers(&app.keys, app.pepper));
            }
        }
    }
}

#[cfg(test)]
mod tests;
