//! Redis answers with an error: NOSCRIPT, READONLY, MASTERDOWN, LOADING or BUSY.

use std::process::{Command, Stdio};
use std::time::Duration;

use countersign::proto::Tokens;
use tonic::Code;

use crate::support::caller::generation;
use crate::support::{Caller, Countersign, Load, PASSWORD, Redis, Servers, assert_refused, eventually};

const UNAVAILABLE: &str = "Unavailable STORE_UNAVAILABLE";

async fn start(options: &[&str]) -> (Servers, Countersign, Caller, Tokens) {
    let servers = Servers::start(options).await.with_default_timeouts();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    (servers, server, caller, session)
}

fn refreshing(caller: &Caller) -> Load {
    let caller = caller.clone();
    // Slow enough for the hashing queue on a busy machine.
    Load::start(15, move |_| {
        let caller = caller.clone();
        async move {
            let session = caller.issue("ada", PASSWORD).await?;
            let (next, _) = caller.refresh(&session.refresh_token).await?;
            assert_eq!(generation(&next.refresh_token), 1);
            Ok(())
        }
    })
}

async fn until_refused(caller: &Caller) {
    eventually("logins are refused", Duration::from_secs(30), || async {
        let status = caller.issue("ada", PASSWORD).await.err()?;
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        Some(())
    })
    .await;
}

async fn until_it_works(caller: &Caller, session: &Tokens) {
    eventually("logins work", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
    // No refresh was executed twice meanwhile.
    let (next, _) = caller.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(generation(&next.refresh_token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_forgot_are_loaded_again() {
    // No time-outs are expected here.
    let servers = Servers::start(&[]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    let load = refreshing(&caller);
    for _ in 0..50 {
        servers.redis.command(&["SCRIPT", "FLUSH"]);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let report = load.stop().await;
    println!("{report}");
    report.assert_only(&["Ok"]);
    until_it_works(&caller, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_became_a_replica_is_unavailable() {
    let (servers, _server, caller, session) = start(&["--repl-diskless-sync-delay", "0"]).await;
    let master = Redis::start(&[]);
    // The replica keeps its data while the link is down, and must not be served from: READONLY, then MASTERDOWN.
    servers
        .redis
        .command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    for port in [master.address().port(), 1] {
        servers.redis.command(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
        for _ in 0..5 {
            until_refused(&caller).await;
            assert_refused(
                caller.refresh(&session.refresh_token).await,
                Code::Unavailable,
                "STORE_UNAVAILABLE",
            );
            caller.assert_active(&session.access_token).await;
        }
    }
    servers.redis.command(&["REPLICAOF", "NO", "ONE"]);
    // It did not take over the data of the other master: the session is gone, and Refresh says so.
    eventually("logins work", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loading_redis_is_unavailable_and_then_has_every_session() {
    let (mut servers, _server, caller, session) =
        start(&["--appendonly", "yes", "--enable-debug-command", "yes"]).await;
    servers.redis.command(&["DEBUG", "POPULATE", "20000", "filler", "10"]);
    servers.redis.command(&["BGREWRITEAOF"]);
    eventually("the data is on the disk", Duration::from_secs(20), || async {
        let state = servers.redis.command(&["INFO", "persistence"]);
        (state.contains("aof_rewrite_in_progress:0") && state.contains("aof_rewrite_scheduled:0")).then_some(())
    })
    .await;
    servers.redis.kill();
    servers.redis.launch_slowly();
    until_refused(&caller).await;
    caller.assert_active(&session.access_token).await;
    eventually("Redis has loaded its data", Duration::from_mins(1), || async {
        servers.redis.ready().then_some(())
    })
    .await;
    until_it_works(&caller, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_busy_with_a_foreign_script_is_unavailable() {
    let (servers, _server, caller, session) = start(&["--busy-reply-threshold", "100"]).await;
    let mut endless = Command::new("redis-cli")
        .args(["-u", &servers.redis.url(), "EVAL", "while true do end", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until_refused(&caller).await;
    for _ in 0..10 {
        assert_refused(
            caller.refresh(&session.refresh_token).await,
            Code::Unavailable,
            "STORE_UNAVAILABLE",
        );
        caller.assert_active(&session.access_token).await;
    }
    servers.redis.command(&["SCRIPT", "KILL"]);
    endless.wait().unwrap();
    until_it_works(&caller, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_redis_is_unavailable_until_it_wakes() {
    let (servers, _server, caller, session) = start(&["--enable-debug-command", "yes"]).await;
    let mut dozing = Command::new("redis-cli")
        .args(["-u", &servers.redis.url(), "DEBUG", "SLEEP", "3"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let load = refreshing(&caller);
    until_refused(&caller).await;
    dozing.wait().unwrap();
    let report = load.stop().await;
    println!("{report}");
    report.assert_only(&["Ok", UNAVAILABLE, "ResourceExhausted OVERLOADED"]);
    until_it_works(&caller, &session).await;
}
