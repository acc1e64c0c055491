//! A master of Redis fails, under Sentinels and in a cluster.

use std::time::Duration;

use crate::judgement::warnings;
use crate::run::{run, sizes};
use crate::support::deployment::for_outages as storage;
use crate::support::random::Random;
use crate::support::redis_groups::{ClusterGroup, SentinelGroup};
use crate::support::{Countersign, Postgres};

struct Sentinels {
    redis: SentinelGroup,
    postgres: Postgres,
}

struct Cluster {
    redis: ClusterGroup,
    postgres: Postgres,
}

/// The slot whose master fails.
const SLOT: u16 = 42;

async fn sentinels(options: &'static [&'static str]) -> (Sentinels, String) {
    let started = tokio::task::spawn_blocking(|| Sentinels {
        redis: SentinelGroup::start(2, 3, options),
        postgres: Postgres::start(&[("fsync", "off")]),
    });
    let stores = started.await.unwrap();
    let url = stores.postgres.database().await.url().to_owned();
    (stores, url)
}

async fn cluster() -> (Cluster, String) {
    let started = tokio::task::spawn_blocking(|| Cluster {
        redis: ClusterGroup::start(3, 1, &[]),
        postgres: Postgres::start(&[("fsync", "off")]),
    });
    let stores = started.await.unwrap();
    let url = stores.postgres.database().await.url().to_owned();
    (stores, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_under_sentinels_is_killed() {
    for size in sizes() {
        let (stores, database) = sentinels(&[]).await;
        let storage = storage(&database, &stores.redis.url());
        let fault = |stores: &mut Sentinels, _: &mut Vec<Countersign>, random: &mut Random| {
            let master = stores.redis.announced_master().expect("a master");
            stores.redis.servers[master].kill();
            stores.redis.wait_for_successor(master);
            std::thread::sleep(random.millis(0, 2_000));
            stores.redis.servers[master].launch();
            stores.redis.wait_until_follows(master);
        };
        let (judgement, _stores, _servers) = run("Sentinel, master killed", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
    }
}

/// The master hangs until a replica is promoted, and then wakes: for some seconds it still believes that it is the master.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_master_under_sentinels_wakes_after_the_promotion() {
    for size in sizes() {
        let (stores, database) = sentinels(&[]).await;
        let storage = storage(&database, &stores.redis.url());
        let fault = |stores: &mut Sentinels, _: &mut Vec<Countersign>, random: &mut Random| {
            let master = stores.redis.announced_master().expect("a master");
            stores.redis.servers[master].freeze();
            stores.redis.wait_for_successor(master);
            std::thread::sleep(random.millis(0, 300));
            stores.redis.servers[master].thaw();
            stores.redis.wait_until_follows(master);
        };
        let (judgement, _stores, _servers) = run("Sentinel, master hung", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_of_a_cluster_is_killed() {
    for size in sizes() {
        let (stores, database) = cluster().await;
        let storage = storage(&database, &stores.redis.url());
        let fault = |stores: &mut Cluster, _: &mut Vec<Countersign>, random: &mut Random| {
            let master = stores.redis.master_of(SLOT, 0).expect("a master");
            stores.redis.nodes[master].kill();
            stores.redis.wait_for_successor(master, SLOT);
            std::thread::sleep(random.millis(0, 2_000));
            stores.redis.nodes[master].launch();
        };
        let (judgement, _stores, _servers) = run("Cluster, master killed", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_master_of_a_cluster_wakes_after_the_promotion() {
    for size in sizes() {
        let (stores, database) = cluster().await;
        let storage = storage(&database, &stores.redis.url());
        let fault = |stores: &mut Cluster, _: &mut Vec<Countersign>, random: &mut Random| {
            let master = stores.redis.master_of(SLOT, 0).expect("a master");
            stores.redis.nodes[master].freeze();
            stores.redis.wait_for_successor(master, SLOT);
            std::thread::sleep(random.millis(0, 300));
            stores.redis.nodes[master].thaw();
            std::thread::sleep(Duration::from_secs(2));
        };
        let (judgement, _stores, _servers) = run("Cluster, master hung", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
    }
}

/// Nothing fails: slots move to another master and back while clients use the sessions in them.
#[tokio::test(flavor = "multi_thread")]
async fn slots_are_moved_to_another_master() {
    for size in sizes() {
        let (stores, database) = cluster().await;
        let storage = storage(&database, &stores.redis.url());
        let fault = |stores: &mut Cluster, _: &mut Vec<Countersign>, random: &mut Random| {
            for (from, to) in [(0, 1), (1, 0)] {
                stores.redis.move_slots(from, to, 1_000);
                std::thread::sleep(random.millis(0, 500));
            }
        };
        let (judgement, _stores, servers) = run("Cluster, slots moved", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
        assert_eq!(judgement.lost_logins, 0, "{judgement}");
        let wanted = "Unauthenticated SESSION_REVOKED";
        let is_wanted = judgement.errors.keys().all(|error| error == wanted);
        assert!(is_wanted, "{judgement}\n{}", warnings(&servers));
    }
}
