//! The first server that a URL names accepts connections and never answers: its process is stopped, or the network behind its address
//! is gone. A replica starts with the others.

use std::net::{SocketAddr, TcpListener};

use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::Instant;

use crate::support::deployment::{add_user, for_tests};
use crate::support::redis_groups::{ClusterGroup, SentinelGroup};
use crate::support::{Caller, Database, PASSWORD, Postgres, Storage};

/// Accepts connections by the backlog of the system, and reads nothing.
struct SilentHost(TcpListener);

impl SilentHost {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// The URL of a database whose first host is silent.
fn behind(silent: &SilentHost, database: &Database) -> String {
    let (hosts, name) = (format!("{},{}", silent.address(), database.address()), database.name());
    format!("postgres://postgres@{hosts}/{name}?target_session_attrs=read-write")
}

/// Starts a replica with the default limits of time, and uses it at once.
#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn assert_serves(what: &str, database: &Database, redis_url: &str) {
    let silent = SilentHost::start();
    let storage = for_tests(Storage::clustered(&behind(&silent, database), redis_url, "cs"))
        .set("storage.acquire_timeout", "2s")
        .set("storage.redis_timeout", "300ms");
    block_in_place(|| add_user(&storage, "ada", &[]));
    let start = Instant::now();
    let server = block_in_place(|| storage.serve(&[]));
    println!("{what}: ready after {:.1?}", start.elapsed());
    let caller = Caller::of(&server);
    // The first calls succeed within their deadlines.
    let tokens = caller.issue("ada", PASSWORD).await.unwrap();
    caller.refresh(&tokens.refresh_token).await.unwrap();
    caller.assert_active(&tokens.access_token).await;
    let doctor = block_in_place(|| storage.run(&["doctor"]).finish());
    assert_eq!(doctor.code(), Some(0), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_first_host_of_postgres_and_of_the_sentinels_delays_the_start_only() {
    let redis = spawn_blocking(|| SentinelGroup::start(0, 2, &[])).await.unwrap();
    let postgres = Postgres::start(&[("fsync", "off")]);
    let silent = SilentHost::start();
    let url = redis.url().replacen(
        "redis-sentinel://",
        &format!("redis-sentinel://{},", silent.address()),
        1,
    );
    assert_serves("Sentinel", &postgres.database().await, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_first_node_of_a_cluster_delays_the_start_only() {
    let redis = spawn_blocking(|| ClusterGroup::start(3, 0, &[])).await.unwrap();
    let postgres = Postgres::start(&[("fsync", "off")]);
    let silent = SilentHost::start();
    let url = format!("redis-cluster://{},{}", silent.address(), redis.nodes[1].address());
    assert_serves("Cluster", &postgres.database().await, &url).await;
}
