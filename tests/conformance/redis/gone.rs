//! A Redis that cannot be reached, does not answer, or answers that it cannot serve.

use std::time::Duration;

use countersign::model::session::NewSession;
use countersign::model::{Error, ErrorKind, Rotation};
use countersign::store::SessionStore as _;
use countersign::store::redis::Redis;
use tokio::time::{Instant, timeout};

use super::{RECOVERY, TIMEOUT, back, connect_with, server};
use crate::sessions::world::{attempt, present, session, successor};
use crate::support::proxy::{Proxy, Weather};
use crate::support::redis::try_command;
use crate::support::{Redis as Server, RedisSentinel, eventually, ports};

/// Far beyond a timeout or two, and far below none.
const LONG: Duration = Duration::from_secs(10);

/// Stores here give up soon.
async fn connect(url: &str) -> Redis {
    connect_with(url, "cs", TIMEOUT).await.unwrap()
}

async fn connected(server: &Server) -> Redis {
    connect(&server.url()).await
}

/// A session in the store, however busy the machine is.
async fn created(store: &Redis) -> NewSession {
    let session = session();
    eventually("it is created", RECOVERY, || async {
        store.create(&session, 9).await.ok()
    })
    .await;
    session
}

fn is_unavailable(error: &Error) {
    assert_eq!(error.kind, ErrorKind::StoreUnavailable, "{error:?}");
    assert!(error.retry_after.is_some());
}

/// Without waiting for Redis.
fn was_turned_away(error: &Error) -> bool {
    let why = error.private.as_deref().unwrap_or_default();
    ["not connected", "not examined", "breaker", "too many"]
        .iter()
        .any(|reason| why.contains(reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_at_the_start_is_no_reason_not_to_start() {
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
        was_turned_away(&error),
        "it is known to be away: nobody waits for it: {error:?}"
    );
    let server = tokio::task::spawn_blocking(move || {
        let mut server = server;
        server.launch();
        server
    })
    .await
    .unwrap();
    back(&store).await;
    store.create(&session, 9).await.unwrap();
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_at_the_address() {
    let url = format!("redis://127.0.0.1:{}", ports::free());
    let store = timeout(RECOVERY, connect(&url)).await.unwrap();
    is_unavailable(&store.ping().await.unwrap_err());
    is_unavailable(&store.advance_counters(&[]).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_it_is_used_again() {
    let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = connected(&server).await;
    let session = created(&store).await;
    let first = attempt(&session, 0, "a");
    eventually("it is rotated", RECOVERY, || async { store.rotate(&first).await.ok() }).await;
    server.kill();
    for _ in 0..20 {
        let asked = Instant::now();
        is_unavailable(&store.rotate(&attempt(&session, 1, "b")).await.unwrap_err());
        assert!(asked.elapsed() < LONG);
    }
    server.launch();
    back(&store).await;
    assert_eq!(
        successor(&store.rotate(&attempt(&session, 1, "b")).await.unwrap()).generation,
        2
    );
    server.launch_empty();
    back(&store).await;
    let lost = eventually("it answers", RECOVERY, || async {
        store.rotate(&present(&session, 2)).await.ok()
    })
    .await;
    assert_eq!(lost, Rotation::Unknown, "what is lost is lost: log in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_it_costs_a_few_timeouts_and_thawed_it_rotates_once() {
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
        at_once |= was_turned_away(&error);
    }
    assert!(at_once, "nobody waits for it any more");
    server.thaw();
    back(&store).await;
    let rotation = store.rotate(&attempt(&session, 0, "a")).await.unwrap();
    assert_eq!(
        successor(&rotation).generation,
        1,
        "what was sent while it was frozen ran at most once: {rotation:?}"
    );
    assert_eq!(
        successor(&store.rotate(&attempt(&session, 1, "b")).await.unwrap()).generation,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_under_load_nothing_piles_up() {
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
    let mut turned_away = 0;
    for call in calls {
        let error = timeout(RECOVERY, call).await.expect("every call ends in time").unwrap();
        is_unavailable(&error);
        turned_away += u32::from(was_turned_away(&error));
    }
    assert!(turned_away > 2000, "{turned_away} were turned away at once");
    server.thaw();
    back(&store).await;
    assert_eq!(
        successor(&store.rotate(&attempt(&session, 0, "a")).await.unwrap()).generation,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_is_left_behind() {
    let server = server(&[]).await;
    let proxy = Proxy::start(server.address()).await;
    let store = connect(&format!("redis://{}", proxy.address())).await;
    let session = created(&store).await;
    for weather in [Weather::Blackhole, Weather::Cut] {
        proxy.set(weather);
        for _ in 0..10 {
            is_unavailable(&store.rotate(&present(&session, 0)).await.unwrap_err());
        }
        proxy.set(Weather::Fine(Duration::ZERO));
        back(&store).await;
    }
    assert!(store.rotate(&present(&session, 0)).await.unwrap().success().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_written_to_and_its_promotion_is_noticed() {
    let master = server(&[]).await;
    let store = connected(&master).await;
    let session = created(&store).await;
    let other = server(&["--repl-diskless-sync-delay", "0"]).await;
    master.command(&["REPLICAOF", "127.0.0.1", &other.address().port().to_string()]);
    eventually("it has become a replica in full", RECOVERY, || async {
        is_unavailable(&store.rotate(&present(&session, 0)).await.unwrap_err());
        let link = master.command(&["INFO", "replication"]);
        link.contains("master_link_status:up").then_some(())
    })
    .await;
    master.command(&["REPLICAOF", "NO", "ONE"]);
    let rotation = eventually("it is written to again", RECOVERY, || async {
        store.rotate(&present(&session, 0)).await.ok()
    })
    .await;
    assert_eq!(rotation, Rotation::Unknown, "it has the other's data now");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_with_somebody_elses_script_is_unavailable() {
    let server = server(&["--busy-reply-threshold", "50"]).await;
    let store = connected(&server).await;
    let session = created(&store).await;
    let url = server.url();
    let busy = tokio::task::spawn_blocking(move || try_command(&url, &["EVAL", "while true do end", "0"]));
    eventually("Redis is busy", RECOVERY, || async {
        let error = store.rotate(&present(&session, 0)).await.err()?;
        is_unavailable(&error);
        error.private.filter(|why| why.contains("BUSY"))
    })
    .await;
    server.command(&["SCRIPT", "KILL"]);
    assert!(busy.await.unwrap().is_err());
    back(&store).await;
    assert!(store.rotate(&present(&session, 0)).await.unwrap().success().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_leads_to_the_new_master() {
    let mut sentinel = tokio::task::spawn_blocking(RedisSentinel::start).await.unwrap();
    let store = connect(&sentinel.url()).await;
    let session = created(&store).await;
    let replica = sentinel.replica.url();
    eventually("the replica has it", RECOVERY, || async {
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
