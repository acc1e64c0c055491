//! Counters that show when Redis was restored from an old backup.

use std::collections::HashSet;

use countersign::store::SessionStore as _;

use super::{connect, connected, server};
use crate::support::RedisCluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_advances_and_a_missing_one_starts_from_the_stored_value() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let first = store.advance_counters(&[]).await.unwrap();
    assert_eq!(first, [("0".to_owned(), 1)]);
    let second = store.advance_counters(&first).await.unwrap();
    assert_eq!(second, [("0".to_owned(), 2)]);
    let restored = store.advance_counters(&[("0".to_owned(), 40)]).await.unwrap();
    assert_eq!(
        restored,
        [("0".to_owned(), 3)],
        "the value in Redis counts: it is 37 steps behind"
    );
    server.command(&["FLUSHALL"]);
    assert_eq!(
        store.advance_counters(&[("0".to_owned(), 40)]).await.unwrap(),
        [("0".to_owned(), 41)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_master_of_a_cluster_has_a_counter() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(3, &[]))
        .await
        .unwrap();
    let store = connect(&cluster.url(), "cs").await.unwrap();
    let first = store.advance_counters(&[]).await.unwrap();
    assert_eq!(first.len(), 3);
    for master in &cluster.masters {
        assert_eq!(master.command(&["KEYS", "cs:counter:*"]).lines().count(), 1);
    }
    // Another replica later: the same names, each one step further.
    let other = connect(&cluster.url(), "cs").await.unwrap();
    let mut known = first.clone();
    known.push(("gone".to_owned(), 7));
    known.reverse();
    let second = other.advance_counters(&known).await.unwrap();
    let names = |counters: &[(String, i64)]| counters.iter().map(|(name, _)| name.clone()).collect::<HashSet<_>>();
    let older_names = names(&second).difference(&names(&first)).count();
    assert!(
        older_names <= 1,
        "only the master that owns the older name uses it: {second:?}"
    );
    assert!(
        second
            .iter()
            .all(|(name, value)| *value == if name == "gone" { 8 } else { 2 }),
        "{second:?}"
    );
}
