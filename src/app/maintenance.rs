//! Background tasks: keys, clean-up, and the counters that detect a restored backup.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::services::{App, peppers};
use super::stores::Usage;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Result};
use crate::secret::random;
use crate::store::{BackupCounter, COUNTER_STEP, ComparedCounters, RedisNodes};

/// The pause between two removals of expired rows.
const CLEAN_UP_INTERVAL: Duration = Duration::from_mins(1);

/// The most rows that one statement of the clean-up removes.
const BATCH_SIZE: u32 = 1000;

/// The pause between two comparisons of the counters of the store of sessions: well below [`COUNTER_STEP`], so that a step is
/// made soon after it is due. The counters are also compared at each reconnection.
const COUNTER_INTERVAL: Duration = Duration::from_secs(15);

/// How often the memory of the store of sessions is read.
const MEMORY_INTERVAL: Duration = Duration::from_secs(15);

/// How often the sessions are counted.
const SESSIONS_INTERVAL: Duration = Duration::from_mins(1);

/// The first pause between two attempts to compare the counters after a start or a reconnection. Each is twice as long as the one
/// before: until all counters were compared, sessions of an old backup are accepted.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a change of the nodes of Redis is looked for.
const NODES_INTERVAL: Duration = Duration::from_secs(5);

/// After this time the nodes are stored again although they did not change, so that they are not forgotten.
const CONFIRM_NODES_AFTER: Duration = Duration::from_hours(1);

/// Starts the background tasks, which run until `stop`.
pub(super) fn start(app: &Arc<App>, tasks: &TaskTracker, stop: &CancellationToken) {
    app.feed.notice_pauses_in_thread();
    let feed = app.feed.clone().run(
        app.stores.durable.clone(),
        app.stores.announcements.clone(),
        stop.clone(),
    );
    tasks.spawn(feed);
    tasks.spawn(app.attempts.clone().run(stop.clone()));
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
        |app| jittered(CLEAN_UP_INTERVAL, app),
        |app| async move { clean_up(&app).await },
    ));
    tasks.spawn(repeat(
        app.clone(),
        stop.clone(),
        "counters",
        |app| jittered(COUNTER_INTERVAL, app),
        // A master that is away is compared when it is back.
        |app| async move { counters(&app).await.map(drop) },
    ));
    for (usage, interval) in [(Usage::Memory, MEMORY_INTERVAL), (Usage::Sessions, SESSIONS_INTERVAL)] {
        tasks.spawn(measure(app.clone(), stop.clone(), usage, interval));
    }
    tasks.spawn(remember_nodes(app.clone(), stop.clone()));
    tasks.spawn(announce_keys(app.clone(), stop.clone()));
}

/// The interval ± 10 %, so that replicas do not run in step.
fn jittered(interval: Duration, app: &App) -> Duration {
    let unit = f64::from(random::<1>(&*app.stores.entropy)[0]) / 255.0;
    interval.mul_f64(0.9 + 0.2 * unit)
}

/// Runs `work` repeatedly, each time after a `pause`. Logs one warning when it begins to fail, unless a store is lost, which
/// has lines of its own.
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
            Err(error) if !failing && !error.is_logged => {
                failing = true;
                tracing::warn!(%error, task = name, "a background task failed; it runs again after its pause");
            }
            Ok(()) if failing => {
                failing = false;
                tracing::info!(task = name, "a background task succeeded again");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Rotates and removes keys. Does neither while this machine's clock differs too much from the store's, because other
/// replicas cannot undo these changes.
async fn keys(app: &App) -> Result<()> {
    // Loading is always safe, and it spares look-ups of keys that other replicas made.
    app.keys.reload().await?;
    app.feed.check_skew()?;
    app.keys.tick().await
}

async fn clean_up(app: &App) -> Result<()> {
    app.feed.check_skew()?;
    while app.stores.durable.purge_revocations(BATCH_SIZE).await? == BATCH_SIZE {}
    while app.stores.sessions.purge_sessions(BATCH_SIZE).await? == BATCH_SIZE {}
    let before = app.feed.capped_now().minus(app.audit_retention);
    while app.stores.durable.purge_audit(before, BATCH_SIZE).await? == BATCH_SIZE {}
    Ok(())
}

/// Advances the counters in the store of sessions, then stores them durably. A counter that is `storage.redis_backup_age` or more
/// behind its stored value shows that the store was restored from a backup; then every record in it belongs to an old era. One that
/// is less behind lost its newest steps in a failover; the store has raised it, so that the losses of several failovers do not
/// add up.
///
/// Returns whether the counters of all masters were compared. An error is one of the database.
async fn counters(app: &App) -> Result<bool> {
    let (era, known) = app.stores.durable.era().await?;
    let backup_steps = steps(app.redis_backup_age);
    let compared = app.stores.sessions.advance_counters(&known, backup_steps).await;
    let ComparedCounters { counters, is_complete } = match compared {
        Ok(compared) => compared,
        Err(error) => {
            tracing::debug!(%error, "cannot compare the counters of the store of sessions");
            return Ok(false);
        }
    };
    let (restored, failed_over): (Vec<_>, Vec<_>) = counters
        .iter()
        .filter(|counter| counter.behind > 0)
        .cloned()
        .partition(|counter| counter.behind >= backup_steps);
    for BackupCounter { name, behind, .. } in failed_over {
        tracing::info!(
            master = name,
            minutes_behind = behind,
            "a master of the store of sessions is {behind} min behind, as after a failover; lost rotations heal at the next refresh"
        );
    }
    let oldest = restored.iter().max_by_key(|counter| counter.behind);
    let lost = oldest.map(|counter| sessions_lost(app, counter));
    let advanced: Vec<(String, i64)> = counters
        .into_iter()
        .map(|counter| (counter.name, counter.value))
        .filter(|counter| !known.contains(counter))
        .collect();
    if advanced.is_empty() && lost.is_none() {
        return Ok(is_complete);
    }
    app.stores.durable.store_counters(&advanced, lost.as_ref(), era).await?;
    // Last, so that after a crash before this line the same loss is found again. The era is then raised twice, which is
    // harmless; with the opposite order the old sessions could stay valid.
    app.stores.sessions.raise_counters(&restored).await?;
    Ok(is_complete)
}

/// The number of counter steps in this time, at least one.
fn steps(age: Duration) -> i64 {
    i64::try_from(age.as_secs().div_ceil(COUNTER_STEP.as_secs()))
        .unwrap_or(i64::MAX)
        .max(1)
}

/// Logs that a master came back from a backup, and returns the event of it.
fn sessions_lost(app: &App, counter: &BackupCounter) -> AuditEvent {
    let (master, minutes) = (&counter.name, counter.behind);
    tracing::error!(
        master,
        minutes_behind = minutes,
        "the store of sessions came back from an old backup: a master is {minutes} min behind (storage.redis_backup_age is {} min); \
         every session ends and users log in again",
        steps(app.redis_backup_age)
    );
    let (now, origin) = (app.stores.clock.now(), Origin::system());
    AuditEvent::new(AuditType::SessionsLost, master, &origin, now, &*app.stores.entropy)
        .with_detail("steps", minutes)
        .with_detail("minutes_behind", minutes)
}

/// Sets the gauges of how much is stored. While that cannot be read, they keep their values.
async fn measure(app: Arc<App>, stop: CancellationToken, usage: Usage, interval: Duration) {
    loop {
        if let Err(error) = (app.stores.measure)(usage).await {
            tracing::debug!(%error, ?usage, "cannot read how much is stored; the metrics keep their values");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Compares the counters once, before the first call; then a task does so at each reconnection to the store of sessions: it may have
/// been restored from a backup meanwhile, and its old sessions must not be accepted until the next interval.
pub(super) async fn watch_counters(app: &Arc<App>, tasks: &TaskTracker, stop: &CancellationToken) {
    let reconnections = app.stores.sessions.reconnections();
    let compared = counters(app).await;
    if let Err(error) = &compared {
        tracing::warn!(%error, "cannot compare the counters of the store of sessions yet; a restored backup is not detected until then");
    }
    if let Some(reconnections) = reconnections {
        let is_due = !matches!(compared, Ok(true));
        let app = app.clone();
        let compare = async move || counters(&app).await;
        tasks.spawn(compare_at_reconnections(compare, is_due, stop.clone(), reconnections));
    }
}

/// Calls `compare` at each reconnection, and at once if `is_due`, again and again until it has compared all.
async fn compare_at_reconnections(
    compare: impl AsyncFn() -> Result<bool>,
    mut is_due: bool,
    stop: CancellationToken,
    mut reconnections: watch::Receiver<u64>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause), if is_due => {}
            changed = reconnections.changed() => {
                if changed.is_err() {
                    return;
                }
                pause = FIRST_PAUSE;
            }
        }
        is_due = match compare().await {
            Ok(is_complete) => !is_complete,
            Err(error) => {
                tracing::debug!(%error, "cannot compare the counters of the store of sessions yet");
                true
            }
        };
        pause = if is_due {
            (pause * 2).min(LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
    }
}

/// Remembers the Sentinels or cluster nodes that were found, when they change and once an hour, for a replica that starts while the
/// configured ones are dead.
async fn remember_nodes(app: Arc<App>, stop: CancellationToken) {
    let Some((postgres, redis)) = &app.stores.clustered else {
        return;
    };
    let mut stored: Option<(RedisNodes, Instant)> = None;
    loop {
        let nodes = redis.nodes();
        let is_stored = |(before, at): &(RedisNodes, Instant)| *before == nodes && at.elapsed() < CONFIRM_NODES_AFTER;
        if !nodes.addresses.is_empty() && !stored.as_ref().is_some_and(is_stored) {
            let configured = &app.stores.redis_configured;
            match postgres.remember_redis_nodes(configured, nodes.clone()).await {
                Ok(()) => stored = Some((nodes, Instant::now())),
                Err(error) => tracing::debug!(%error, "cannot remember the nodes of Redis yet"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(NODES_INTERVAL) => {}
        }
    }
}

/// Announces each new key ring to the watchers, and its peppers to the hashing pool.
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
