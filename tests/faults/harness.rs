//! The test tools themselves: the servers, proxies and clean-up that the other tests rely on do what they claim.
//! Otherwise a fault that never happens would seem to be handled.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::support::proxy::{AfterLoss, LinkState};
use crate::support::redis::try_command;
use crate::support::{Database, KeySpace, Postgres, Proxy, Redis, RedisCluster, RedisSentinel, poll};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_database_is_fresh_and_can_be_queried() {
    let database = Database::fresh().await;
    database
        .execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, NULL)")
        .await;
    assert_eq!(database.rows("SELECT * FROM t").await, [[Some("1".into()), None]]);
    assert!(
        String::from_utf8(database.dump())
            .unwrap()
            .contains("INTO public.t VALUES (1, NULL)")
    );
    let other = Database::fresh().await;
    assert_eq!(
        other
            .scalar("SELECT count(*) FROM pg_tables WHERE tablename = 't'")
            .await,
        "0"
    );
}

#[tokio::test]
async fn postgres_freezes_crashes_and_comes_back() {
    let mut server = Postgres::start(&[]);
    let database = server.database().await;
    server.freeze();
    assert!(timeout(SHORT, database.connect()).await.is_err());
    server.thaw();
    database.execute("CREATE TABLE kept ()").await;
    server.stop(Signal::SIGQUIT);
    server.launch();
    assert_eq!(database.scalar("SELECT count(*) FROM kept").await, "0");
}

#[tokio::test]
async fn the_proxy_loses_replies_and_cuts_connections() {
    let mut server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let proxy = Proxy::start(server.address()).await;
    let increment = || {
        let url = format!("redis://{}", proxy.address());
        spawn_blocking(move || try_command(&url, &["INCR", "n"]))
    };
    assert_eq!(increment().await.unwrap(), Ok("1".into()));
    proxy.lose_reply(
        |request| request.windows(4).any(|word| word == b"INCR"),
        AfterLoss::Close,
    );
    assert!(increment().await.unwrap().is_err());
    assert_eq!(proxy.lost(), 1);
    assert_eq!(server.command(&["GET", "n"]), "2", "the command was executed");

    proxy.set(LinkState::Cut);
    assert!(increment().await.unwrap().is_err());
    proxy.set(LinkState::Blackhole);
    assert!(timeout(SHORT, increment()).await.is_err());
    proxy.set(LinkState::Up(Duration::ZERO));
    assert!(increment().await.unwrap().is_ok());

    server.kill();
    server.launch();
    assert_ne!(server.command(&["GET", "n"]), "", "the append-only file is read back");
    server.launch_empty();
    assert_eq!(server.command(&["GET", "n"]), "");
}

#[test]
fn key_spaces_are_separate() {
    let (one, other) = (KeySpace::fresh(), KeySpace::fresh());
    one.command(&["SET", &format!("{}:a", one.prefix()), "1"]);
    assert_eq!((one.keys().len(), other.keys().len()), (1, 0));
}

#[test]
fn a_cluster_has_its_slots_and_a_sentinel_promotes() {
    let cluster = RedisCluster::start(3, &[]);
    assert!(
        cluster.masters[2]
            .command(&["CLUSTER", "INFO"])
            .contains("cluster_size:3")
    );

    let mut watched = RedisSentinel::start();
    watched.master.kill();
    let promoted = poll(Duration::from_secs(90), || {
        // A promotion closes the connections of clients, so a single question may fail.
        let role = try_command(&watched.replica.url(), &["INFO", "replication"]);
        role.is_ok_and(|role| role.contains("role:master")).then_some(())
    });
    assert!(promoted.is_some());
}

/// Set for the test runner that the test below starts and kills.
const TO_BE_KILLED: &str = "COUNTERSIGN_TEST_TO_BE_KILLED";

#[test]
fn a_runner_to_be_killed() {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        let server = Redis::start(&[]);
        println!("\nstarted {} {}", server.address(), server.folder().display());
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn nothing_outlives_a_killed_runner() {
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness::a_runner_to_be_killed", "--nocapture"])
        .env(TO_BE_KILLED, "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(runner.stdout.take().unwrap());
    let started = said
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("started ").map(str::to_owned))
        .unwrap();
    let (address, folder) = started.split_once(' ').unwrap();
    let url = format!("redis://{address}");
    assert!(try_command(&url, &["PING"]).is_ok());
    runner.kill().unwrap();
    runner.wait().unwrap();
    let gone = poll(Duration::from_secs(40), || {
        (try_command(&url, &["PING"]).is_err() && !std::path::Path::new(folder).exists()).then_some(())
    });
    assert!(gone.is_some(), "redis-server still runs, or {folder} is still there");
}
