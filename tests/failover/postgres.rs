//! The primary of streaming replication fails, and a standby is promoted.

use std::time::Duration;

use crate::random::Random;
use crate::run::{run, sizes, storage};
use crate::support::{Countersign, Database, Postgres, Redis};

/// A primary with standbys, and a Redis that stays up.
struct Replication {
    primary: Postgres,
    standbys: Vec<Postgres>,
    redis: Redis,
}

impl Replication {
    /// A primary and two standbys. `synchronous` is the value of `synchronous_standby_names`; empty for asynchronous ones.
    fn start(synchronous: &str) -> Self {
        let primary = Postgres::start(&[("wal_keep_size", "64MB")]);
        let standbys = vec![primary.streaming_standby("a"), primary.streaming_standby("b")];
        if !synchronous.is_empty() {
            primary.wait_for_standbys(synchronous);
        }
        Self {
            primary,
            standbys,
            redis: Redis::start(&[]),
        }
    }

    /// A URL that names all servers, for the database of this test.
    fn url(&self, database: &Database) -> String {
        let hosts: Vec<String> = std::iter::once(&self.primary)
            .chain(&self.standbys)
            .map(|server| server.address().to_string())
            .collect();
        let (hosts, name) = (hosts.join(","), database.name());
        format!("postgres://postgres@{hosts}/{name}?target_session_attrs=read-write")
    }

    /// The standby that has received most, which a manager of failovers promotes.
    fn most_advanced(&self) -> &Postgres {
        let received = |server: &&Postgres| {
            let bytes = server.sql("SELECT coalesce(pg_last_wal_receive_lsn(), '0/0') - '0/0'::pg_lsn");
            bytes.parse::<u64>().expect("a number of bytes")
        };
        self.standbys.iter().max_by_key(received).expect("there are standbys")
    }

    /// Promotes it, and lets the other standbys follow it, as far as the old primary is gone.
    fn promote(&self) {
        let chosen = self.most_advanced();
        chosen.set("synchronous_standby_names", "");
        chosen.promote();
    }
}

/// With synchronous standbys nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_killed_and_a_synchronous_standby_promoted() {
    for size in sizes() {
        let stores = tokio::task::spawn_blocking(|| Replication::start("ANY 1 (a, b)"))
            .await
            .unwrap();
        let database = stores.primary.database().await;
        let storage = storage(&stores.url(&database), &stores.redis.url());
        let fault = |stores: &mut Replication, _: &mut Vec<Countersign>, random: &mut Random| {
            stores.primary.kill();
            // A manager of failovers needs some seconds to be sure.
            std::thread::sleep(random.millis(500, 3_000));
            stores.promote();
        };
        let (judgement, _stores, _servers) = run("synchronous promotion", size, storage, stores, fault).await;
        judgement.assert_nothing_lost();
        assert_eq!(judgement.lost_logins, 0, "{judgement}");
    }
}

/// Like the first scenario, but the primary hangs, and wakes when its successor serves already. Its address is fenced only by
/// `target_session_attrs`, so that connections to it stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_primary_wakes_after_the_promotion() {
    for size in sizes() {
        let stores = tokio::task::spawn_blocking(|| Replication::start("ANY 1 (a, b)"))
            .await
            .unwrap();
        let database = stores.primary.database().await;
        let storage = storage(&stores.url(&database), &stores.redis.url());
        let fault = |stores: &mut Replication, _: &mut Vec<Countersign>, random: &mut Random| {
            stores.primary.freeze();
            std::thread::sleep(random.millis(1_000, 3_000));
            stores.promote();
            std::thread::sleep(Duration::from_secs(3));
            // It cannot acknowledge anything: its standbys follow another server, or none.
            stores.primary.thaw();
        };
        let (judgement, _stores, _servers) = run("hung primary", size, storage, stores, fault).await;
        judgement.assert_nothing_lost();
    }
}
