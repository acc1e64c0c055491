//! Nodes of a Redis Cluster die or hang: the users on other masters go on, and a replica that starts meanwhile finds the nodes that
//! are left. `COUNTERSIGN_TEST_OTHER_BINARY` names another build to run in place of this one.

use std::time::Duration;

use tokio::task::{JoinSet, block_in_place, spawn_blocking};
use tokio::time::Instant;

use crate::support::deployment::{add_user, for_tests};
use crate::support::redis_groups::ClusterGroup;
use crate::support::{Caller, Database, PASSWORD, Postgres, Storage, eventually};

const USERS: usize = 12;

const RECOVERY: Duration = Duration::from_mins(1);

struct Cluster {
    redis: ClusterGroup,
    storage: Storage,
    database: Database,
    /// The name of each user, and the index of the master that has the user's sessions.
    users: Vec<(String, usize)>,
    _postgres: Postgres,
}

impl Cluster {
    /// Three masters with so many replicas each; `url` makes the URL of Redis.
    async fn start(replicas: usize, url: fn(&ClusterGroup) -> String) -> Self {
        let redis = spawn_blocking(move || ClusterGroup::start(3, replicas, &["--appendonly", "yes"]));
        let redis = redis.await.unwrap();
        let postgres = Postgres::start(&[("fsync", "off")]);
        let database = postgres.database().await;
        let storage = for_tests(Storage::clustered(database.url(), &url(&redis), "cs"));
        let storage = storage.set("storage.redis_timeout", "300ms");
        let users = block_in_place(|| {
            let with_master = |n| {
                let name = format!("u{n}");
                let id = add_user(&storage, &name, &[]);
                let slot = redis.nodes[0].command(&["CLUSTER", "KEYSLOT", &format!("cs:s:{{{id}}}")]);
                let master = redis.master_of(slot.parse().unwrap(), 0).unwrap();
                (name, master)
            };
            (0..USERS).map(with_master).collect()
        });
        Self {
            redis,
            storage,
            database,
            users,
            _postgres: postgres,
        }
    }

    fn users_except_on(&self, master: usize) -> Vec<String> {
        let elsewhere = self.users.iter().filter(|(_, of)| *of != master);
        elsewhere.map(|(name, _)| name.clone()).collect()
    }
}

/// Logs in each of these users again and again for so long; returns the longest time without a success of one of them.
async fn longest_gap(caller: &Caller, users: &[String], within: Duration) -> Duration {
    let mut tasks = JoinSet::new();
    for user in users {
        let (caller, user) = (caller.clone(), user.clone());
        tasks.spawn(async move {
            let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
            while start.elapsed() < within {
                if caller.issue(&user, PASSWORD).await.is_ok() {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            gap.max(last.elapsed())
        });
    }
    tasks.join_all().await.into_iter().max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_on_other_masters_go_on() {
    for is_killed in [true, false] {
        let mut cluster = Cluster::start(0, ClusterGroup::url).await;
        let server = block_in_place(|| cluster.storage.serve(&[]));
        let caller = Caller::of(&server);
        let (_, lost) = cluster.users[0];
        for (user, _) in &cluster.users {
            caller.login(user).await;
        }
        if is_killed {
            cluster.redis.nodes[lost].kill();
        } else {
            cluster.redis.nodes[lost].freeze();
        }
        let others = cluster.users_except_on(lost);
        let gap = longest_gap(&caller, &others, Duration::from_secs(7)).await;
        println!(
            "killed: {is_killed}; the longest gap of {} users on other masters: {gap:.2?}",
            others.len()
        );
        // 0.5 s by design; a busy machine may be slow.
        assert!(gap < Duration::from_secs(2), "{gap:?}");
        let of_lost = caller.issue(&cluster.users[0].0, PASSWORD).await;
        assert!(of_lost.is_err_and(|status| status.code() == tonic::Code::Unavailable));
        if is_killed {
            cluster.redis.nodes[lost].launch();
        } else {
            cluster.redis.nodes[lost].thaw();
        }
        eventually("the lost master is used again", RECOVERY, || async {
            caller.issue(&cluster.users[0].0, PASSWORD).await.ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_starts_while_the_only_configured_node_is_dead() {
    let mut cluster = Cluster::start(1, |redis| format!("redis-cluster://{}", redis.nodes[0].address())).await;
    let server = block_in_place(|| cluster.storage.serve(&[]));
    let tokens = Caller::of(&server).login("u0").await;
    eventually("the nodes are remembered", RECOVERY, || async {
        let nodes = cluster
            .database
            .scalar("SELECT max(cardinality(nodes)) FROM redis_nodes")
            .await;
        (nodes == "6").then_some(())
    })
    .await;
    // No password, no user: addresses only.
    let rows = cluster
        .database
        .rows("SELECT configured, nodes::text FROM redis_nodes")
        .await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    server.kill();
    block_in_place(|| {
        let slot = (0..16_384)
            .step_by(64)
            .find(|slot| cluster.redis.master_of(*slot, 1) == Some(0));
        cluster.redis.nodes[0].kill();
        cluster.redis.wait_for_successor(0, slot.unwrap());
    });
    let start = Instant::now();
    let server = block_in_place(|| cluster.storage.serve(&[]));
    let ready = start.elapsed();
    let caller = Caller::of(&server);
    let refreshed = caller.refresh_until_answered(&tokens.refresh_token).await;
    println!("ready after {ready:.1?}, Refresh after {:.1?}", start.elapsed());
    refreshed.unwrap();
    for (user, _) in &cluster.users {
        caller.issue(user, PASSWORD).await.unwrap();
    }
}
