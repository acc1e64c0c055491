//! How much is stored: the memory of the masters, and the number of sessions.

use countersign::store::SessionStore as _;

use super::{connected, server};
use crate::sessions::backends::{session_of, user};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_exactly_while_they_are_few_and_estimated_when_they_are_many() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    assert_eq!(store.count_sessions().await.unwrap(), 0);
    for _ in 0..3 {
        let user = user();
        for _ in 0..4 {
            store.create(&session_of(user), 1000).await.unwrap();
        }
    }
    assert_eq!(store.count_sessions().await.unwrap(), 12);

    // Keys of other purposes do not count.
    server.command(&["EVAL", "for n = 1, 1000 do redis.call('SET', 'cs:t:' .. n, 1) end", "0"]);
    for _ in 0..1000 {
        let user = user();
        for _ in 0..2 {
            store.create(&session_of(user), 1000).await.unwrap();
        }
    }
    let estimate = store.count_sessions().await.unwrap();
    assert!((1500..2500).contains(&estimate), "{estimate} of 2012");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_the_masters_is_read() {
    let server = server(&["--maxmemory", "100mb"]).await;
    let usage = connected(&server).await.memory_usage().await.unwrap();
    assert_eq!(usage.max, 100 * 1024 * 1024);
    assert!((0.0..1.0).contains(&usage.fullest) && usage.used > 500_000, "{usage:?}");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let usage = connected(&server).await.memory_usage().await.unwrap();
    assert_eq!(usage.max, 0);
    assert!(usage.fullest.abs() < f64::EPSILON, "{usage:?}");
}
