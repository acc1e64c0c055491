//! A Redis that must not be used, and a Redis without free memory.

use countersign::model::{ErrorKind, Rotation};
use countersign::store::redis::ConnectError;
use countersign::store::{Announcements as _, SessionStore as _};

use super::{RECOVERY, connect, connected, server, wait_until_used};
use crate::sessions::backends::{attempt, present, session, session_of, user};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_refused() {
    let server = server(&["--maxmemory-policy", "allkeys-lru"]).await;
    let error = connect(&server.url(), "cs").await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Unusable(found) if found.contains("allkeys-lru")),
        "{error:?}"
    );
    assert!(matches!(
        connect("redis:/127.0.0.1", "cs").await,
        Err(ConnectError::Settings(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_starts_to_evict_is_not_used_until_it_stops() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let session = session();
    store.create(&session, 9).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let refused = eventually("the eviction policy is noticed", RECOVERY, || async {
        let error = store.rotate(&present(&session, 0)).await.err()?;
        assert_eq!(error.kind, ErrorKind::StoreUnavailable);
        Some(error.cause_text()).filter(|cause| cause.contains("volatile-lru"))
    })
    .await;
    assert!(!refused.is_empty());
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    wait_until_used(&store).await;
    assert!(store.rotate(&present(&session, 0)).await.unwrap().success().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_still_ends_sessions_and_announces_it() {
    let server = server(&["--maxmemory", "3mb"]).await;
    let store = connected(&server).await;
    let user = user();
    let first = session_of(user);
    store.create(&first, 1000).await.unwrap();
    store.rotate(&attempt(&first, 0, "a")).await.unwrap();
    let full = loop {
        let mut large = session();
        large.context.user_agent = "x".repeat(128);
        large.context.device_name = "x".repeat(128);
        if let Err(error) = store.create(&large, 1000).await {
            break error;
        }
    };
    assert_eq!(full.kind, ErrorKind::StoreFull, "{full:?}");
    // Buffers make the used memory vary around the limit; below the present use, Redis is certainly full.
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let error = store.rotate(&present(&first, 1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::StoreFull);
    assert_eq!(store.list(user, 1).await.unwrap().len(), 1);
    let revocation = super::stream::revocation();
    store.announce(&[revocation]).await.unwrap();
    store.advance_counters(&[], 15).await.unwrap();
    assert!(store.end(user, first.id).await.unwrap());
    assert_eq!(store.end_user(user, i64::MAX, None).await.unwrap(), 0);

    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.rotate(&present(&first, 1)).await.unwrap(), Rotation::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_master_of_a_cluster_is_checked() {
    let cluster = tokio::task::spawn_blocking(|| crate::support::RedisCluster::start(3, &[]))
        .await
        .unwrap();
    cluster.masters[2].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    let error = connect(&cluster.url(), "cs").await.unwrap_err();
    let port = cluster.masters[2].address().port().to_string();
    assert!(
        matches!(&error, ConnectError::Unusable(found) if found.contains(&port)),
        "{error:?}"
    );
    cluster.masters[2].command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let store = connect(&cluster.url(), "cs").await.unwrap();
    tokio::time::timeout(RECOVERY, store.ping()).await.unwrap().unwrap();
}
