//! The log of a replica through an outage of a store, under load: one line when the store is lost and one when it is back.
//!
//! `COUNTERSIGN_TEST_OUTAGE=60 cargo test --all-features --test faults outage_log -- --nocapture` is the long run, with an
//! outage of a minute, 200 calls a second and the default time-outs of the stores. The short run has six seconds, fewer calls and
//! long time-outs, so that a slow machine is no outage. With `COUNTERSIGN_TEST_OUTAGE_LOGS=FOLDER` each log is written there.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Caller, Countersign, Load, PASSWORD, Servers, eventually, size};

/// The most lines of a whole log, from the start of the replica to its end, without the copies of audit events.
const MAX_LINES: usize = 30;

/// The length of the outage in the short run, in seconds.
const SHORT: u64 = 6;

/// The lines of a log, without the copies of audit events: each login has one, with an outage or without.
fn lines(log: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    let all = log.lines().filter(|line| line.starts_with('{')).map(parse);
    all.filter(|line: &Value| line["target"] != "audit").collect()
}

fn with<'a>(lines: &'a [Value], words: &str) -> Vec<&'a Value> {
    let matching = lines
        .iter()
        .filter(|line| line["message"].as_str().unwrap().starts_with(words));
    matching.collect()
}

/// Asserts that the store has one line at each edge, with its address, the cause and the duration.
fn assert_edges(lines: &[Value], product: &str, address: &str, outage: Duration) {
    let (lost, back) = (
        with(lines, &format!("lost {product} at {address}: ")),
        with(lines, &format!("{product} at {address} is back after ")),
    );
    assert_eq!((lost.len(), back.len()), (1, 1), "{product}: {lines:#?}");
    assert_eq!((&lost[0]["level"], &back[0]["level"]), (&"WARN".into(), &"INFO".into()));
    // A server that is going down may reset connections before it refuses them.
    let cause = lost[0]["error"].as_str().unwrap();
    assert!(
        cause.contains("refused")
            || cause.contains("reset")
            || cause.contains("closed")
            || cause.contains("shutting down"),
        "{}",
        lost[0]
    );
    let lasted = back[0]["outage_seconds"].as_f64().unwrap();
    assert!(lasted > outage.as_secs_f64() * 0.5, "{}", back[0]);
    assert!(back[0]["failed"].as_u64().unwrap() > 0, "{}", back[0]);
}

/// Mostly validations and refreshes, and some logins.
fn load(a_second: u32, caller: &Caller, access_token: &str, refresh_token: &str) -> Load {
    let caller = caller.clone();
    let (access, refresh) = (access_token.to_owned(), refresh_token.to_owned());
    Load::start(a_second, move |n| {
        let (caller, access, refresh) = (caller.clone(), access.clone(), refresh.clone());
        async move {
            match n % 20 {
                0 => caller.issue("ada", PASSWORD).await.map(drop),
                // The same token again and again, within the grace.
                1..=6 => caller.refresh(&refresh).await.map(drop),
                _ => caller.validate(&access).await.map(drop),
            }
        }
    })
}

struct Outage {
    redis: bool,
    postgres: bool,
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn through(name: &str, outage: Outage) {
    let seconds = size("COUNTERSIGN_TEST_OUTAGE", SHORT);
    let is_long = seconds > SHORT;
    let servers = Servers::start(&["--appendonly", "yes"]).await;
    let (database, redis) = (servers.database.url().to_owned(), servers.redis.url());
    // Without the proxies, which accept connections for a store that is away.
    let servers = if is_long {
        servers.with_default_timeouts()
    } else {
        servers
    };
    let mut servers = servers
        .set("storage.database_url", &database)
        .set("storage.redis_url", &redis)
        .set("tokens.reuse_policy", "tolerant")
        .set("tokens.refresh_grace", "300s");
    let mut server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    let a_second = if is_long { 200 } else { 50 };
    let load = load(a_second, &caller, &session.access_token, &session.refresh_token);

    if outage.postgres {
        servers.postgres.stop(Signal::SIGQUIT);
    }
    if outage.redis {
        servers.redis.kill();
    }
    // The length of the outage, not a wait for anything.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    if outage.postgres {
        servers.postgres.launch();
    }
    if outage.redis {
        servers.redis.launch();
    }
    eventually("both stores are used again", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
    let lost = usize::from(outage.redis) + usize::from(outage.postgres);
    eventually("the log tells of the return", Duration::from_mins(1), || async {
        (with(&lines(&server.log()), "").len() > lost && is_back(&server) >= lost).then_some(())
    })
    .await;
    let report = load.stop().await;
    stop(&mut server).await;

    let log = server.log();
    let lines = lines(&log);
    println!(
        "{name}, {seconds} s: {} lines beside {} audit events; calls: {report}",
        lines.len(),
        log.lines().count() - lines.len()
    );
    for line in &lines {
        println!("{line}");
    }
    if let Some(folder) = std::env::var_os("COUNTERSIGN_TEST_OUTAGE_LOGS") {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        std::fs::write(
            std::path::Path::new(&folder).join(format!("outage-{name}.log")),
            lines.join("\n"),
        )
        .unwrap();
    }
    assert!(lines.len() <= MAX_LINES, "{} lines", lines.len());
    let outage_time = Duration::from_secs(seconds);
    for (is_out, product, address) in [
        (outage.redis, "Redis", servers.redis.address()),
        (outage.postgres, "PostgreSQL", servers.postgres.address()),
    ] {
        if is_out {
            assert_edges(&lines, product, &address.to_string(), outage_time);
        } else {
            assert!(with(&lines, &format!("lost {product}")).is_empty(), "{product}");
        }
    }
    // No line of a library, and no call by itself.
    for line in &lines {
        assert!(
            line["target"].as_str().unwrap().starts_with("countersign") && line["request_id"].is_null(),
            "{line}"
        );
    }
    for edge in ["SIGTERM received", "drained", "stopped"] {
        assert_eq!(with(&lines, edge).len(), 1, "{edge}");
    }
    assert!(report.count("Ok") > 0);
}

/// How many stores are back.
fn is_back(server: &Countersign) -> usize {
    let lines = lines(&server.log());
    let message = |line: &Value| line["message"].as_str().unwrap_or_default().contains(" is back after ");
    lines.iter().filter(|line| message(line)).count()
}

async fn stop(server: &mut Countersign) {
    server.signal(Signal::SIGTERM);
    eventually("the server ends", Duration::from_secs(30), || {
        let ended = server.exited();
        async move { ended }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_is_one_line_at_each_edge() {
    let outage = Outage {
        redis: true,
        postgres: false,
    };
    through("redis", outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_postgres_is_one_line_at_each_edge() {
    let outage = Outage {
        redis: false,
        postgres: true,
    };
    through("postgres", outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_both_stores_is_one_line_at_each_edge_of_each() {
    let outage = Outage {
        redis: true,
        postgres: true,
    };
    through("both", outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_named_as_such_and_a_lost_database_is_not_a_full_pool() {
    let servers = Servers::start(&[]).await;
    let database = servers.database.url().to_owned();
    let mut servers = servers
        .set("storage.acquire_timeout", "1s")
        .set("storage.database_url", &database)
        .set("storage.database_pool", "2");
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    caller.login("ada").await;
    let mut lock = servers.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM users FOR UPDATE")
        .execute(&mut lock)
        .await
        .unwrap();
    // Two logins wait for the row that each login updates, and take both connections; others wait for a connection.
    let logins = (0..4).map(|_| caller.issue("ada", PASSWORD));
    futures_util::future::join_all(logins).await;
    let line = eventually("the full pool has a line", Duration::from_secs(20), || async {
        lines(&server.log())
            .into_iter()
            .find(|line| line["message"].as_str().unwrap().contains("failed although it answers"))
    })
    .await;
    assert!(line["failed"].as_u64().unwrap() > 0 && line["error"] != "", "{line}");
    drop(lock);
    servers.postgres.stop(Signal::SIGQUIT);
    let lost = eventually("the log tells of the loss", Duration::from_secs(20), || async {
        drop(caller.issue("ada", PASSWORD).await);
        with(&lines(&server.log()), "lost PostgreSQL")
            .first()
            .map(|line| (*line).clone())
    })
    .await;
    // From then on, no wait for a connection reads like a full pool.
    for _ in 0..3 {
        drop(caller.issue("ada", PASSWORD).await);
    }
    let lines = lines(&server.log());
    let at = lines.iter().position(|line| *line == lost).unwrap();
    assert!(
        !lines[at..].iter().any(|line| line.to_string().contains("were in use")),
        "{lines:#?}"
    );
}
