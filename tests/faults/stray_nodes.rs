//! Nodes of another deployment of Redis answer at addresses that replicas ask: an address got another owner, or a URL names a wrong
//! one. Their epochs say nothing about this deployment.

use std::time::Duration;

use tokio::task::{block_in_place, spawn_blocking};
use tonic::Code;

use crate::support::caller::reason;
use crate::support::deployment::{add_user, for_tests};
use crate::support::redis_groups::{ClusterGroup, SentinelGroup};
use crate::support::{Caller, Countersign, Database, PASSWORD, Postgres, Redis, Storage, eventually};

const SOON: Duration = Duration::from_mins(1);

/// More failovers than the deployment of the test has seen.
const EPOCH: u32 = 1_000;

/// In the log of a replica that has asked a stray node.
const IGNORED: &str = "belongs to another deployment of Redis";

async fn stores(redis_url: &str) -> (Storage, Database, Postgres) {
    let postgres = Postgres::start(&[("fsync", "off")]);
    let database = postgres.database().await;
    let storage = for_tests(Storage::clustered(database.url(), redis_url, "cs"));
    block_in_place(|| add_user(&storage, "ada", &[]));
    (storage, database, postgres)
}

async fn sentinels() -> (SentinelGroup, Redis) {
    let started = spawn_blocking(|| (SentinelGroup::start(0, 3, &[]), Redis::start(&[])));
    started.await.unwrap()
}

fn serve(storage: &Storage) -> Countersign {
    block_in_place(|| storage.serve(&[]))
}

/// Waits until the replica has asked a stray node, and checks that it did not follow.
async fn assert_ignored(server: &Countersign, foreign: &Redis) {
    eventually("the stray node was asked", SOON, || async {
        let log = server.log();
        assert!(!log.contains("Redis has other masters now"), "{log}");
        log.contains(IGNORED).then_some(())
    })
    .await;
    assert_eq!(
        foreign.command(&["DBSIZE"]),
        "0",
        "nothing is written to the other deployment"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_of_another_deployment_at_a_known_address_is_not_followed() {
    let (mut redis, foreign) = sentinels().await;
    let (storage, _database, _postgres) = stores(&redis.url_of(0)).await;
    let server = serve(&storage);
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    // The others still name the address.
    block_in_place(|| redis.replace_sentinel(2, &foreign, EPOCH));
    assert_ignored(&server, &foreign).await;
    caller.refresh(&session.refresh_token).await.unwrap();
    // A replica that starts now asks it, too.
    drop(server);
    let server = serve(&storage);
    let caller = Caller::of(&server);
    caller.refresh(&session.refresh_token).await.unwrap();
    assert_ignored(&server, &foreign).await;
    caller.login("ada").await;
    assert_eq!(server.log().matches(IGNORED).count(), 1, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn remembered_addresses_that_now_belong_to_another_deployment_are_not_followed() {
    let (mut redis, foreign) = sentinels().await;
    let (storage, database, _postgres) = stores(&redis.url_of(0)).await;
    let server = serve(&storage);
    let session = Caller::of(&server).login("ada").await;
    eventually("the nodes and their ids are remembered", SOON, || async {
        let asked = "SELECT max(cardinality(nodes) + cardinality(ids)) FROM redis_nodes";
        (database.scalar(asked).await == "6").then_some(())
    })
    .await;
    drop(server);
    block_in_place(|| {
        redis.kill_sentinel(0);
        for remembered in [1, 2] {
            redis.replace_sentinel(remembered, &foreign, EPOCH);
        }
    });
    let server = serve(&storage);
    let caller = Caller::of(&server);
    assert_ignored(&server, &foreign).await;
    let refused = caller.issue("ada", PASSWORD).await.unwrap_err();
    assert_eq!(reason(&refused).0, Code::Unavailable);
    assert_eq!(foreign.command(&["DBSIZE"]), "0");
    let doctor = block_in_place(|| storage.run(&["doctor"]).finish());
    assert!(doctor.stdout.contains(IGNORED), "{doctor:?}");

    block_in_place(|| redis.launch_sentinel(0));
    caller.refresh_until_answered(&session.refresh_token).await.unwrap();
    assert_eq!(foreign.command(&["DBSIZE"]), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_remembered_sentinels_while_the_configured_one_is_dead() {
    let (mut redis, _foreign) = sentinels().await;
    let (storage, database, _postgres) = stores(&redis.url_of(0)).await;
    let server = serve(&storage);
    eventually("the nodes are remembered", SOON, || async {
        let nodes = database.scalar("SELECT max(cardinality(nodes)) FROM redis_nodes").await;
        (nodes == "3").then_some(())
    })
    .await;
    drop(server);
    redis.kill_sentinel(0);
    let doctor = block_in_place(|| storage.run(&["doctor"]).finish());
    assert_eq!(doctor.code(), Some(0), "{doctor:?}");
    assert!(doctor.stdout.contains("from the clock of Redis"), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_node_of_another_cluster_is_not_followed() {
    let started = spawn_blocking(|| {
        let redis = ClusterGroup::start(3, 0, &[]);
        let bus = crate::support::ports::free().to_string();
        let foreign = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        foreign.command(&["CLUSTER", "SET-CONFIG-EPOCH", &EPOCH.to_string()]);
        foreign.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        (redis, foreign)
    });
    let (redis, foreign) = started.await.unwrap();
    let nodes = redis.nodes.iter().map(|node| format!("node={}", node.address()));
    let nodes: Vec<String> = nodes.collect();
    let url = format!("redis-cluster://{}?{}", foreign.address(), nodes.join("&"));
    let (storage, _database, _postgres) = stores(&url).await;
    eventually("the other cluster works", SOON, || async {
        foreign
            .command(&["CLUSTER", "INFO"])
            .contains("cluster_state:ok")
            .then_some(())
    })
    .await;
    let server = serve(&storage);
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    assert_ignored(&server, &foreign).await;
    caller.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(foreign.command(&["DBSIZE"]), "0");
}
