//! A Redis that cannot be reached, does not answer, or answers with errors.

use std::time::Duration;

use countersign::model::session::NewSession;
use countersign::model::{Error, ErrorKind, Rotation};
use countersign::store::SessionStore as _;
use countersign::store::redis::Redis;
use tokio::time::{Instant, timeout};

use super::{RECOVERY, TIMEOUT, connect_with, server, wait_until_used};
use crate::sessions::backends::{attempt, present, session, successor};
use crate::support::proxy::{LinkState, Proxy};
use crate::support::redis::try_command;
use crate::support::{Redis as Server, RedisSentinel, eventually, ports};

/// Longer than a few timeouts, and much shorter than a call without a timeout.
const LONG: Duration = Duration::from_secs(10);

/// A store with a short timeout.
async fn connect(url: &str) -> Redis {
    connect_with(url, "cs", TIMEOUT).await.unwrap()
}

async fn connected(server: &Server) -> Redis {
    connect(&server.url()).await
}

/// Creates a session, with retries because the machine may be busy.
async fn created(store: &Redis) -> NewSession {
    let session = session();
    eventually("the session is created", RECOVERY, || async {
        store.create(&session, 9).await.ok()
    })
    .await;
    session
}

fn is_unavailable(error: &Error) {
    assert_eq!(error.kind, ErrorKind::StoreUnavailable, "{error:?}");
    assert!(error.retry_after.is_some());
}

/// Whether the call was rejected without waiting for Redis.
fn was_rejected_at_once(error: &Error) -> bool {
    let cause = error.cause_text();
    ["not connected", "not examined", "breaker", "too many"]
        .iter()
        .any(|reason| cause.contains(reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_redis_does_not_prevent_the_start() {
    let (server, url) = {
        let mut server = server(&[]).await;
        server.kill();
        let url = server.url();
        (server, url)
    };
    let store = connect(&url).await;
    let session = session();
    let error = store.create(&session, 9).await.unwrap_err();
    is_unavailable(&error);
    assert!(
        was_rejected_at_once(&error),
        "Redis is known to be unreachable, so the call does not wait: {error:?}"
    );
    let server = tokio::task::spawn_blocking(move || {
        let mut server = server;
        server.launch();
        server
    })
    .await
    .unwrap();
    wait_until_used(&store).await;
    store.create(&session, 9).await.unwrap();
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_where_no_redis_listens() {
    let url = format!("redis://127.0.0.1:{}", ports::free());
    let store = timeout(RECOVERY, connect(&url)).await.unwrap();
    is_unavailable(&store.ping().await.unwrap_err());
    is_unavailable(&store.advance_counters(&[], 15).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_used_again_after_its_restart() {
    let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = connected(&server).await;
    let session = created(&store).await;
    let first = attempt(&session, 0, "a");
    eventually("the session is rotated", RECOVERY, || async {
        store.rotate(&first).await.ok()
    })
    .await;
    server.kill();
    for _ in 0..20 {
        let asked = Instant::now();
        is_unavailable(&store.rotate(&attempt(&session, 1, "b")).await.unwrap_err());
        assert!(asked.elapsed() < LONG);
    }
    server.launch();
    wait_until_used(&store).await;
    assert_eq!(
        successor(&store.rotate(&attempt(&session, 1, "b")).await.unwrap()).generation,
        2
    );
    server.launch_empty();
    wait_until_used(&store).await;
    let lost = eventually("Redis answers", RECOVERY, || async {
        store.rotate(&present(&session, 2)).await.ok()
    })
    .await;
    assert_eq!(
        lost,
        Rotation::Unknown,
        "the session is lost: the user must log in again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_costs_a_few_timeouts_and_rotates_once_after_it() {
    let mut server = server(&[]).await;
    let store = connected(&server).await;
    let session = created(&store).await;
    server.freeze();
    let mut at_once = false;
    for _ in 0..15 {
        let asked = Instant::now();
        let error = store.rotate(&attempt(&session, 0, "a")).await.unwrap_err();
        is_unavailable(&error);
        assert!(asked.elapsed() < LONG);
        at_once |= was_rejected_at_once(&error);
    }
    assert!(at_once, "calls no longer wait for Redis");
    server.thaw();
    wait_until_used(&store).await;
    let rotation = store.rotate(&attempt(&session, 0, "a")).await.unwrap();
    assert_eq!(
        successor(&rotation).generation,
        1,
        "the calls sent while Redis was frozen ran at most once: {rotation:?}"
    );
    assert_eq!(
        successor(&store.rotate(&attempt(&session, 1, "b")).await.unwrap()).generation,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_under_load_queues_no_calls() {
    let mut server = server(&[]).await;
    let store = std::sync::Arc::new(connected(&server).await);
    let session = created(&store).await;
    server.freeze();
    let calls: Vec<_> = (0..5000)
        .map(|_| {
            let (store, presented) = (store.clone(), attempt(&session, 0, "a"));
            tokio::spawn(async move { store.rotate(&presented).await.unwrap_err() })
        })
        .collect();
    let mut rejected = 0;
    for call in calls {
        let error = timeout(RECOVERY, call).await.expect("every call ends in time").unwrap();
        is_unavailable(&error);
        rejected += u32::from(was_rejected_at_once(&error));
    }
    assert!(rejected > 2000, "{rejected} were rejected at once");
    server.thaw();
    wait_until_used(&store).await;
    assert_eq!(
        successor(&store.rotate(&attempt(&session, 0, "a")).await.unwrap()).generation,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_recovers_from_a_network_that_drops_or_cuts_everything() {
    let server = server(&[]).await;
    let proxy = Proxy::start(server.address()).await;
    let store = connect(&format!("redis://{}", proxy.address())).await;
    let session = created(&store).await;
    for state in [LinkState::Blackhole, LinkState::Cut] {
        proxy.set(state);
        for _ in 0..10 {
            is_unavailable(&store.rotate(&present(&session, 0)).await.unwrap_err());
        }
        proxy.set(LinkState::Up(Duration::ZERO));
        wait_until_used(&store).await;
    }
    assert!(store.rotate(&present(&session, 0)).await.unwrap().success().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_used_until_it_is_promoted() {
    let master = server(&[]).await;
    let store = connected(&master).await;
    let session = created(&store).await;
    let other = server(&["--repl-diskless-sync-delay", "0"]).await;
    master.command(&["REPLICAOF", "127.0.0.1", &other.address().port().to_string()]);
    eventually("it is a synchronised replica", RECOVERY, || async {
        is_unavailable(&store.rotate(&present(&session, 0)).await.unwrap_err());
        let link = master.command(&["INFO", "replication"]);
        link.contains("master_link_status:up").then_some(())
    })
    .await;
    master.command(&["REPLICAOF", "NO", "ONE"]);
    let rotation = eventually("the promoted server is used", RECOVERY, || async {
        store.rotate(&present(&session, 0)).await.ok()
    })
    .await;
    assert_eq!(rotation, Rotation::Unknown, "it has the data of the other server now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_busy_with_a_script_is_unavailable() {
    let server = server(&["--busy-reply-threshold", "50"]).await;
    let store = connected(&server).await;
    let session = created(&store).await;
    let url = server.url();
    let busy = tokio::task::spawn_blocking(move || try_command(&url, &["EVAL", "while true do end", "0"]));
    eventually("Redis is busy", RECOVERY, || async {
        let error = store.rotate(&present(&session, 0)).await.err()?;
        is_unavailable(&error);
        Some(error.cause_text()).filter(|cause| cause.contains("BUSY"))
    })
    .await;
    server.command(&["SCRIPT", "KILL"]);
    assert!(busy.await.unwrap().is_err());
    wait_until_used(&store).await;
    assert!(store.rotate(&present(&session, 0)).await.unwrap().success().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_provides_the_new_master() {
    let mut sentinel = tokio::task::spawn_blocking(RedisSentinel::start).await.unwrap();
    let store = connect(&sentinel.url()).await;
    let session = created(&store).await;
    let replica = sentinel.replica.url();
    eventually("the replica has the session", RECOVERY, || async {
        (try_command(&replica, &["DBSIZE"]).ok()? != "0").then_some(())
    })
    .await;
    sentinel.master.kill();
    let rotation = eventually("the replica is used", Duration::from_secs(90), || async {
        store.rotate(&attempt(&session, 0, "a")).await.ok()
    })
    .await;
    assert_eq!(successor(&rotation).generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_have_passwords_of_their_own() {
    let sentinel = tokio::task::spawn_blocking(|| {
        let sentinel = RedisSentinel::start();
        for server in [&sentinel.replica, &sentinel.master] {
            server.command(&["CONFIG", "SET", "masterauth", "one"]);
            server.command(&["CONFIG", "SET", "requirepass", "one"]);
        }
        let tell = |words: &[&str]| try_command(&sentinel.own_url(), words).unwrap();
        tell(&["SENTINEL", "SET", RedisSentinel::SERVICE, "auth-pass", "one"]);
        tell(&["ACL", "SETUSER", "default", "resetpass", ">two"]);
        sentinel
    })
    .await
    .unwrap();
    let url = sentinel.url().replace("://", "://:one@");
    let store = connect(&format!("{url}&sentinelPassword=two")).await;
    let session = created(&store).await;
    assert_eq!(
        successor(&store.rotate(&present(&session, 0)).await.unwrap()).generation,
        1
    );
    let refused = connect(&format!("{url}&sentinelPassword=wrong")).await;
    is_unavailable(&refused.ping().await.unwrap_err());
}
