//! Counters that show when Redis was restored from an old backup.

use std::collections::HashSet;

use countersign::store::{BackupCounter, ComparedCounters, SessionStore as _};
use futures_util::future::join_all;

use super::{connect, connected, server};
use crate::support::{Redis as Server, RedisCluster};

/// How many steps behind count as a backup.
const BACKUP: i64 = 15;

fn counter(value: i64, behind: i64) -> ComparedCounters {
    let name = "0".to_owned();
    ComparedCounters {
        counters: vec![BackupCounter { name, value, behind }],
        is_complete: true,
    }
}

fn stored(value: i64) -> [(String, i64); 1] {
    [("0".to_owned(), value)]
}

/// Moves the last step this far into the past, by the clock of Redis.
fn age_last_step(server: &Server, millis: i64) {
    let script = "redis.call('SET', KEYS[1], string.format('%.0f', redis.call('GET', KEYS[1]) - ARGV[1]))";
    let millis = millis.to_string();
    server.command(&["EVAL", script, "1", "cs:counter:{0}:step", &millis]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_advances_once_a_minute_however_many_replicas_ask() {
    let server = server(&[]).await;
    let replicas = join_all((0..6).map(|_| connected(&server))).await;
    let ask = async || {
        let asked = replicas.iter().map(|store| store.advance_counters(&[], BACKUP));
        join_all(asked).await.into_iter().map(|answer| answer.unwrap())
    };
    for _ in 0..3 {
        assert!(ask().await.all(|answer| answer == counter(1, 0)));
    }
    age_last_step(&server, 59_000);
    assert!(ask().await.all(|answer| answer == counter(1, 0)), "not due yet");
    age_last_step(&server, 1_000);
    assert!(ask().await.last().is_some_and(|answer| answer == counter(2, 0)));
    // The clock of the server was set back: the next step is not delayed until that time is reached again.
    age_last_step(&server, -3_600_000);
    assert!(ask().await.all(|answer| answer == counter(3, 0)));
    // A replica of an earlier version adds one at each reconnection; its steps are kept.
    server.command(&["INCR", "cs:counter:{0}"]);
    assert!(ask().await.all(|answer| answer == counter(4, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_of_a_failover_is_raised_and_that_of_a_backup_is_not() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    store.advance_counters(&[], BACKUP).await.unwrap();
    // A failover lost steps: raised at once, so that the next loss is counted anew.
    for lost in [1, BACKUP - 1, BACKUP - 1] {
        let value: i64 = server.command(&["GET", "cs:counter:{0}"]).parse().unwrap();
        let known = stored(value + lost);
        let advanced = store.advance_counters(&known, BACKUP).await.unwrap();
        assert_eq!(advanced, counter(value + lost, lost));
        assert_eq!(
            store.advance_counters(&known, BACKUP).await.unwrap(),
            counter(value + lost, 0)
        );
    }
    // A backup: found by every replica until one has handled it.
    let value: i64 = server.command(&["GET", "cs:counter:{0}"]).parse().unwrap();
    let known = stored(value + BACKUP);
    let found = store.advance_counters(&known, BACKUP).await.unwrap();
    assert_eq!(found, counter(value, BACKUP));
    assert_eq!(store.advance_counters(&known, BACKUP).await.unwrap(), found);
    // Meanwhile a yet older backup was restored: it must not be hidden by the raise that follows the first.
    server.command(&["SET", "cs:counter:{0}", "1"]);
    store.raise_counters(&found.counters).await.unwrap();
    let found = store.advance_counters(&known, BACKUP).await.unwrap();
    assert_eq!(found, counter(1, value + BACKUP - 1));
    store.raise_counters(&found.counters).await.unwrap();
    assert_eq!(
        store.advance_counters(&known, BACKUP).await.unwrap(),
        counter(value + BACKUP, 0)
    );
    // An empty Redis has no old session: its counter starts from the stored value.
    server.command(&["FLUSHALL"]);
    assert_eq!(
        store.advance_counters(&stored(40), BACKUP).await.unwrap(),
        counter(41, 0)
    );
    // A stale master with more steps than the stored value is ahead, not behind.
    server.command(&["SET", "cs:counter:{0}", "90"]);
    assert_eq!(
        store.advance_counters(&stored(41), BACKUP).await.unwrap(),
        counter(90, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_master_of_a_cluster_has_a_counter() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(3, &[]))
        .await
        .unwrap();
    let store = connect(&cluster.url(), "cs").await.unwrap();
    let ComparedCounters {
        counters: first,
        is_complete,
    } = store.advance_counters(&[], BACKUP).await.unwrap();
    assert!(is_complete);
    assert_eq!(first.len(), 3);
    for master in &cluster.masters {
        // The counter, and the time of its last step.
        assert_eq!(master.command(&["KEYS", "cs:counter:*"]).lines().count(), 2);
    }
    // Another replica at once: the same names, and no further step.
    let other = connect(&cluster.url(), "cs").await.unwrap();
    let mut known: Vec<_> = first
        .iter()
        .map(|counter| (counter.name.clone(), counter.value))
        .collect();
    known.push(("gone".to_owned(), 7));
    known.reverse();
    let second = other.advance_counters(&known, BACKUP).await.unwrap().counters;
    let names = |counters: &[BackupCounter]| {
        let names = counters.iter().map(|counter| counter.name.clone());
        names.collect::<HashSet<_>>()
    };
    let older_names = names(&second).difference(&names(&first)).count();
    assert!(
        older_names <= 1,
        "only the master that owns the older name uses it: {second:?}"
    );
    assert!(
        second
            .iter()
            .all(|counter| counter.behind == 0 && counter.value == if counter.name == "gone" { 8 } else { 1 }),
        "{second:?}"
    );
}
