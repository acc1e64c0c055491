//! The primary of streaming replication fails, and a standby is promoted.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::random::Random;
use crate::run::{run, sizes, storage};
use crate::support::proxy::LinkState;
use crate::support::web::get;
use crate::support::{Countersign, Database, Pooler, Postgres, Proxy, Redis, poll};

/// The most lines of WARN and ERROR of a replica in one failover.
const MAX_WARNINGS: usize = 15;

/// A primary with standbys, and a Redis that stays up.
struct Replication {
    primary: Postgres,
    standbys: Vec<Postgres>,
    redis: Redis,
}

impl Replication {
    /// A primary and two standbys, one of which must confirm each commit.
    fn synchronous() -> Self {
        let stores = Self::start(&["a", "b"]);
        stores.primary.wait_for_standbys("ANY 1 (a, b)");
        stores
    }

    /// A primary and one standby that is not synchronous.
    fn asynchronous() -> Self {
        Self::start(&["a"])
    }

    fn start(standbys: &[&str]) -> Self {
        let primary = Postgres::start(&[("wal_keep_size", "64MB")]);
        Self {
            standbys: standbys.iter().map(|name| primary.streaming_standby(name)).collect(),
            primary,
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

    /// The address of the promoted standby.
    fn promoted(&self) -> SocketAddr {
        let is_primary = |server: &&Postgres| server.sql("SELECT pg_is_in_recovery()") == "f";
        let promoted = self.standbys.iter().find(is_primary);
        promoted.expect("a standby was promoted").address()
    }

    /// Takes all standbys from the primary, so that it acknowledges nothing that needs one, and promotes one of them.
    fn promote(&self) {
        for standby in &self.standbys {
            standby.stop_receiving();
        }
        let chosen = self.most_advanced();
        chosen.set("synchronous_standby_names", "");
        chosen.promote();
    }
}

/// Starts the servers, and makes the database of a run.
async fn started(start: fn() -> Replication) -> (Replication, Database) {
    let stores = tokio::task::spawn_blocking(start).await.unwrap();
    let database = stores.primary.database().await;
    (stores, database)
}

/// With synchronous standbys nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_killed_and_a_synchronous_standby_promoted() {
    for size in sizes() {
        let (stores, database) = started(Replication::synchronous).await;
        let storage = storage(&stores.url(&database), &stores.redis.url());
        let fault = |stores: &mut Replication, _: &mut Vec<Countersign>, random: &mut Random| {
            stores.primary.kill();
            // A manager of failovers needs some seconds to be sure.
            std::thread::sleep(random.millis(500, 3_000));
            stores.promote();
        };
        let (judgement, _stores, _servers) = run("synchronous promotion", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
        assert_eq!(judgement.lost_logins, 0, "{judgement}");
    }
}

/// However many calls fail in ten seconds without a primary: the log of each replica has a line at each edge.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_ten_seconds_is_few_lines_in_the_log() {
    for size in sizes() {
        let (stores, database) = started(Replication::synchronous).await;
        let storage = storage(&stores.url(&database), &stores.redis.url());
        let fault = |stores: &mut Replication, _: &mut Vec<Countersign>, _: &mut Random| {
            stores.primary.kill();
            std::thread::sleep(Duration::from_secs(10));
            stores.promote();
        };
        let (judgement, _stores, servers) = run("ten seconds", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
        for server in &servers {
            let log = server.log();
            let is_warning = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
            let lines: Vec<&str> = log.lines().filter(is_warning).collect();
            let lost = lines.iter().filter(|line| line.contains("lost PostgreSQL")).count();
            // A busy machine may lose it again while the standby is promoted.
            assert!((1..=3).contains(&lost), "{lines:#?}");
            assert!(lines.len() <= MAX_WARNINGS, "{lines:#?}");
        }
    }
}

/// Like the first scenario, but the primary hangs, and wakes when its successor serves already. Its address is fenced only by
/// `target_session_attrs`, so that connections to it stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_primary_wakes_after_the_promotion() {
    for size in sizes() {
        let (stores, database) = started(Replication::synchronous).await;
        let storage = storage(&stores.url(&database), &stores.redis.url());
        let fault = |stores: &mut Replication, _: &mut Vec<Countersign>, random: &mut Random| {
            stores.primary.freeze();
            std::thread::sleep(random.millis(1_000, 3_000));
            stores.promote();
            std::thread::sleep(Duration::from_secs(3));
            // It cannot acknowledge anything: no standby follows it.
            stores.primary.thaw();
        };
        let (judgement, _stores, _servers) = run("hung primary", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
    }
}

/// An asynchronous standby that lags is promoted: what the primary acknowledged in the last seconds is gone there. The running
/// replicas know the revocations and write them back, so a replica that starts later refuses the sessions, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_standby_is_promoted_with_three_seconds_of_lag() {
    for size in sizes() {
        let (stores, database) = started(Replication::asynchronous).await;
        let storage = storage(&stores.url(&database), &stores.redis.url());
        let restarted = storage.clone();
        let fault = move |stores: &mut Replication, servers: &mut Vec<Countersign>, random: &mut Random| {
            // The standby receives nothing more.
            stores.standbys[0].stop_receiving();
            std::thread::sleep(Duration::from_secs(3));
            stores.primary.kill();
            std::thread::sleep(random.millis(500, 2_000));
            stores.promote();
            let written = poll(Duration::from_mins(1), || {
                // The others may find that one of them has written all.
                let has_written = |server: &Countersign| server.log().contains("it has written them back");
                servers.iter().any(has_written).then_some(())
            });
            assert!(written.is_some(), "the standby lacked no revocation");
            // Its memory is lost.
            servers[0] = restarted.serve(&[]);
        };
        let (judgement, _stores, _servers) = run("asynchronous promotion", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
    }
}

/// The replicas connect to one address, whose switch leaves old connections open. The old primary goes on, fenced only by the loss
/// of its standbys: its commits wait, and its reads are old.
#[tokio::test(flavor = "multi_thread")]
async fn the_switch_of_an_address_leaves_old_connections_open() {
    for size in sizes() {
        let (stores, database) = started(Replication::synchronous).await;
        let proxy = Proxy::start(stores.primary.address()).await;
        let storage = storage(&database.url_through(proxy.address()), &stores.redis.url());
        let fault = |stores: &mut (Replication, Proxy), _: &mut Vec<Countersign>, random: &mut Random| {
            let (replication, proxy) = stores;
            std::thread::sleep(random.millis(0, 1_000));
            replication.promote();
            proxy.redirect_new(replication.promoted());
        };
        let (judgement, _stores, _servers) = run("uncut switch", size, [storage], (stores, proxy), fault).await;
        judgement.assert_nothing_lost();
    }
}

/// The old primary is not fenced, and one replica stays on it after the others follow the standby that was promoted. It notices
/// and stops; when it can reach the new primary, it writes back what it had acknowledged meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stays_on_the_old_primary_stops() {
    for size in sizes() {
        let (stores, database) = started(Replication::asynchronous).await;
        let ways = [
            Proxy::start(stores.primary.address()).await,
            Proxy::start(stores.primary.address()).await,
        ];
        let storages = ways
            .each_ref()
            .map(|way| storage(&database.url_through(way.address()), &stores.redis.url()));
        let noticed = Arc::new(OnceLock::new());
        let after = Arc::clone(&noticed);
        let fault = move |(stores, ways): &mut (Replication, [Proxy; 2]),
                          servers: &mut Vec<Countersign>,
                          random: &mut Random| {
            stores.promote();
            let follow = |way: &Proxy| {
                way.redirect(stores.standbys[0].address());
                way.set(LinkState::Cut);
                way.set(LinkState::Up(Duration::ZERO));
            };
            let begun = tokio::time::Instant::now();
            follow(&ways[1]);
            // The first replica stays behind. It learns of the other side within two reconciliations, or later on a busy machine.
            let is_told = || servers[0].log().contains("two primaries").then(|| begun.elapsed());
            let told = poll(Duration::from_mins(1), is_told);
            after.set(told.expect("it notices the other side")).unwrap();
            std::thread::sleep(random.millis(2_000, 4_000));
            follow(&ways[0]);
            wait_until_ready(servers);
        };
        let stores = (stores, ways);
        let (judgement, _stores, _servers) = run("old primary not fenced", size, storages, stores, fault).await;
        judgement.print();
        assert!(judgement.ended.is_empty(), "{judgement}");
        assert!(judgement.undone.is_empty(), "{judgement}");
        let noticed = *noticed.get().unwrap();
        let latest = noticed + Duration::from_secs(2);
        assert!(
            judgement.seen_active.longest < latest,
            "noticed after {noticed:?}: {judgement}"
        );
    }
}

/// Like that, but the replica knows both servers: it moves to the later one by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_knows_both_primaries_moves_to_the_later_one() {
    for size in sizes() {
        let (stores, database) = started(Replication::asynchronous).await;
        let way = Proxy::start(stores.primary.address()).await;
        let storages = [
            storage(&stores.url(&database), &stores.redis.url()),
            storage(&database.url_through(way.address()), &stores.redis.url()),
        ];
        let fault = |(stores, way): &mut (Replication, Proxy), servers: &mut Vec<Countersign>, _: &mut Random| {
            stores.promote();
            way.redirect(stores.standbys[0].address());
            way.set(LinkState::Cut);
            way.set(LinkState::Up(Duration::ZERO));
            let moved = poll(Duration::from_mins(1), || {
                let log = servers[0].log();
                log.contains("no longer connected to a database server that was replaced")
                    .then_some(())
            });
            assert!(moved.is_some(), "it stays on the old primary:\n{}", servers[0].log());
            wait_until_ready(servers);
        };
        let stores = (stores, way);
        let (judgement, _stores, _servers) = run("both primaries known", size, storages, stores, fault).await;
        judgement.print();
        assert!(judgement.ended.is_empty(), "{judgement}");
        assert!(judgement.undone.is_empty(), "{judgement}");
    }
}

fn wait_until_ready(servers: &[Countersign]) {
    let ready = poll(Duration::from_mins(1), || {
        servers
            .iter()
            .all(|server| get(server, "/readyz").starts_with("ready"))
            .then_some(())
    });
    assert!(ready.is_some(), "the replicas do not become ready");
}

/// The replicas connect to a pooler, which is made to lead to the promoted standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_switched_to_the_promoted_standby() {
    for size in sizes() {
        let (stores, database) = started(Replication::synchronous).await;
        // More than the writes of all replicas.
        let connections = u32::try_from(size.replicas).unwrap() * 14;
        let pooler = Pooler::with_size(&database, connections);
        let storage = storage(&database.url_through(pooler.address()), &stores.redis.url());
        let fault = |stores: &mut (Replication, Pooler), _: &mut Vec<Countersign>, random: &mut Random| {
            let (replication, pooler) = stores;
            replication.primary.kill();
            std::thread::sleep(random.millis(500, 3_000));
            replication.promote();
            pooler.switch(replication.promoted());
        };
        let (judgement, _stores, _servers) = run("pooler switched", size, [storage], (stores, pooler), fault).await;
        judgement.assert_nothing_lost();
        assert_eq!(judgement.lost_logins, 0, "{judgement}");
    }
}
