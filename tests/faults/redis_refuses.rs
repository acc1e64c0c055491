//! Row 9: Redis answers, and the answer is no.

use std::process::{Command, Stdio};
use std::time::Duration;

use countersign::proto::Tokens;
use tonic::Code;

use crate::support::caller::generation;
use crate::support::{Caller, Countersign, Load, PASSWORD, Redis, Servers, assert_refused, eventually};

const UNAVAILABLE: &str = "Unavailable STORE_UNAVAILABLE";

async fn ready(options: &[&str]) -> (Servers, Countersign, Caller, Tokens) {
    let servers = Servers::start(options).await.giving_up_early();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    (servers, server, caller, session)
}

fn refreshing(caller: &Caller) -> Load {
    let caller = caller.clone();
    // Slow enough for the hashing queue of a busy machine.
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
    // Nothing was sent twice meanwhile.
    let (next, _) = caller.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(generation(&next.refresh_token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_loaded_again_unnoticed() {
    // Nothing is given up on here.
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
    let (servers, _server, caller, session) = ready(&["--repl-diskless-sync-delay", "0"]).await;
    let master = Redis::start(&[]);
    // What it had is kept while the link is down, and must not be served: READONLY, then MASTERDOWN.
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
    // It took over the other's nothing: the session is gone, and said to be.
    eventually("logins work", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_still_loads_is_unavailable_and_then_has_everything() {
    let (mut servers, _server, caller, session) =
        ready(&["--appendonly", "yes", "--enable-debug-command", "yes"]).await;
    servers.redis.command(&["DEBUG", "POPULATE", "20000", "filler", "10"]);
    servers.redis.command(&["BGREWRITEAOF"]);
    eventually("it is on the disk", Duration::from_secs(20), || async {
        let state = servers.redis.command(&["INFO", "persistence"]);
        (state.contains("aof_rewrite_in_progress:0") && state.contains("aof_rewrite_scheduled:0")).then_some(())
    })
    .await;
    servers.redis.kill();
    servers.redis.launch_slowly();
    until_refused(&caller).await;
    caller.assert_active(&session.access_token).await;
    eventually("it has loaded", Duration::from_mins(1), || async {
        servers.redis.ready().then_some(())
    })
    .await;
    until_it_works(&caller, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_busy_with_a_script_of_somebody_else_is_unavailable() {
    let (servers, _server, caller, session) = ready(&["--busy-reply-threshold", "100"]).await;
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
async fn a_redis_that_dozes_off_is_unavailable_for_as_long() {
    let (servers, _server, caller, session) = ready(&["--enable-debug-command", "yes"]).await;
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
