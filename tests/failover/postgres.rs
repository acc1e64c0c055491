//! The primary of streaming replication fails, and a standby is promoted.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::run::{run, sizes};
use crate::support::deployment::for_outages as storage;
use crate::support::proxy::LinkState;
use crate::support::random::Random;
use crate::support::replication::Replication;
use crate::support::web::get;
use crate::support::{Countersign, Database, Pooler, Proxy, Redis, poll};

/// The most lines of WARN and ERROR of a replica in one failover.
const MAX_WARNINGS: usize = 15;

/// A primary with standbys, and a Redis that stays up.
struct Stores {
    postgres: Replication,
    redis: Redis,
}

impl Stores {
    /// A primary and two standbys, one of which must confirm each commit.
    fn synchronous() -> Self {
        Self::on(Replication::synchronous(2))
    }

    /// A primary and one standby that is not synchronous.
    fn asynchronous() -> Self {
        Self::on(Replication::asynchronous(1))
    }

    fn on(postgres: Replication) -> Self {
        let redis = Redis::start(&[]);
        Self { postgres, redis }
    }
}

/// Starts the servers, and makes the database of a run.
async fn started(start: fn() -> Stores) -> (Stores, Database) {
    let stores = tokio::task::spawn_blocking(start).await.unwrap();
    let database = stores.postgres.primary.database().await;
    (stores, database)
}

/// With synchronous standbys nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_killed_and_a_synchronous_standby_promoted() {
    for size in sizes() {
        let (stores, database) = started(Stores::synchronous).await;
        let storage = storage(&stores.postgres.url(&database), &stores.redis.url());
        let fault = |stores: &mut Stores, _: &mut Vec<Countersign>, random: &mut Random| {
            stores.postgres.primary.kill();
            // A manager of failovers needs some seconds to be sure.
            std::thread::sleep(random.millis(500, 3_000));
            stores.postgres.promote();
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
        let (stores, database) = started(Stores::synchronous).await;
        let storage = storage(&stores.postgres.url(&database), &stores.redis.url());
        let fault = |stores: &mut Stores, _: &mut Vec<Countersign>, _: &mut Random| {
            stores.postgres.primary.kill();
            std::thread::sleep(Duration::from_secs(10));
            stores.postgres.promote();
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
        let (stores, database) = started(Stores::synchronous).await;
        let storage = storage(&stores.postgres.url(&database), &stores.redis.url());
        let fault = |stores: &mut Stores, _: &mut Vec<Countersign>, random: &mut Random| {
            stores.postgres.primary.freeze();
            std::thread::sleep(random.millis(1_000, 3_000));
            stores.postgres.promote();
            std::thread::sleep(Duration::from_secs(3));
            // It cannot acknowledge anything: no standby follows it.
            stores.postgres.primary.thaw();
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
        let (stores, database) = started(Stores::asynchronous).await;
        let storage = storage(&stores.postgres.url(&database), &stores.redis.url());
        let restarted = storage.clone();
        let fault = move |stores: &mut Stores, servers: &mut Vec<Countersign>, random: &mut Random| {
            // The standby receives nothing more.
            stores.postgres.standbys[0].stop_receiving();
            std::thread::sleep(Duration::from_secs(3));
            stores.postgres.primary.kill();
            std::thread::sleep(random.millis(500, 2_000));
            stores.postgres.promote();
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
        let (stores, database) = started(Stores::synchronous).await;
        let proxy = Proxy::start(stores.postgres.primary.address()).await;
        let storage = storage(&database.url_through(proxy.address()), &stores.redis.url());
        let fault = |stores: &mut (Stores, Proxy), _: &mut Vec<Countersign>, random: &mut Random| {
            let (stores, proxy) = stores;
            std::thread::sleep(random.millis(0, 1_000));
            stores.postgres.promote();
            proxy.redirect_new(stores.postgres.promoted());
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
        let (stores, database) = started(Stores::asynchronous).await;
        let ways = [
            Proxy::start(stores.postgres.primary.address()).await,
            Proxy::start(stores.postgres.primary.address()).await,
        ];
        let storages = ways
            .each_ref()
            .map(|way| storage(&database.url_through(way.address()), &stores.redis.url()));
        let noticed = Arc::new(OnceLock::new());
        let after = Arc::clone(&noticed);
        let fault =
            move |(stores, ways): &mut (Stores, [Proxy; 2]), servers: &mut Vec<Countersign>, random: &mut Random| {
                stores.postgres.promote();
                let follow = |way: &Proxy| {
                    way.redirect(stores.postgres.standbys[0].address());
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
        let (stores, database) = started(Stores::asynchronous).await;
        let way = Proxy::start(stores.postgres.primary.address()).await;
        let storages = [
            storage(&stores.postgres.url(&database), &stores.redis.url()),
            storage(&database.url_through(way.address()), &stores.redis.url()),
        ];
        let fault = |(stores, way): &mut (Stores, Proxy), servers: &mut Vec<Countersign>, _: &mut Random| {
            stores.postgres.promote();
            way.redirect(stores.postgres.standbys[0].address());
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
        let (stores, database) = started(Stores::synchronous).await;
        // More than the writes of all replicas.
        let connections = u32::try_from(size.replicas).unwrap() * 14;
        let pooler = Pooler::with_size(&database, connections);
        let storage = storage(&database.url_through(pooler.address()), &stores.redis.url());
        let fault = |stores: &mut (Stores, Pooler), _: &mut Vec<Countersign>, random: &mut Random| {
            let (stores, pooler) = stores;
            stores.postgres.primary.kill();
            std::thread::sleep(random.millis(500, 3_000));
            stores.postgres.promote();
            pooler.switch(stores.postgres.promoted());
        };
        let (judgement, _stores, _servers) = run("pooler switched", size, [storage], (stores, pooler), fault).await;
        judgement.assert_nothing_lost();
        assert_eq!(judgement.lost_logins, 0, "{judgement}");
    }
}
