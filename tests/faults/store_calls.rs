//! What calls cost the stores: most calls ask each store once, and logging a user out costs the same for any number
//! of sessions.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use futures_util::future::join_all;
use tonic::Code;

use crate::support::{Caller, PASSWORD, Servers, assert_refused, eventually};

const SESSIONS: usize = 1_000;

/// How many times Redis has run a script.
fn script_calls(servers: &Servers) -> u64 {
    let stats = servers.redis.command(&["INFO", "commandstats"]);
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_eval"))
        .filter_map(calls)
        .sum()
}

/// Stores whose calls are counted, with background tasks that would be counted too turned down.
async fn without_background_calls() -> Servers {
    Servers::start(&[])
        .await
        .set("revocation.max_staleness", "2h")
        .set("revocation.reconcile_interval", "1h")
}

/// SQL statements and Redis scripts of the cheapest of ten calls: a heartbeat of the replica may fall into any of
/// them.
async fn cost<F: Future<Output = ()>>(servers: &Servers, mut call: impl FnMut() -> F) -> (u64, u64) {
    let (mut statements, mut ran) = (u64::MAX, u64::MAX);
    for _ in 0..10 {
        let before = (servers.postgres.statements(), script_calls(servers));
        call().await;
        let after = (servers.postgres.statements(), script_calls(servers));
        statements = statements.min(after.0 - before.0);
        ran = ran.min(after.1 - before.1);
    }
    (statements, ran)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_asks_each_store_once_and_a_login_asks_postgres_twice() {
    let servers = without_background_calls().await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let token = tokio::sync::Mutex::new(caller.login("ada").await.refresh_token);
    // The first call also loads the script.
    let refresh = async || {
        let mut token = token.lock().await;
        *token = caller.refresh(&token).await.unwrap().0.refresh_token;
    };
    refresh().await;
    let refreshed = cost(&servers, &refresh).await;
    let issued = cost(&servers, || async { drop(caller.login("ada").await) }).await;
    let good = caller.login("ada").await.access_token;
    let validated = cost(&servers, || caller.assert_active(&good)).await;
    println!("statements and scripts: Refresh {refreshed:?}, Issue {issued:?}, Validate {validated:?}");
    assert_eq!(refreshed, (1, 1));
    // One statement reads the credential, the other records the login.
    assert_eq!(issued, (2, 1));
    assert_eq!(validated, (0, 0));
}

/// No call holds one connection while it waits for another: with a pool of two, ten calls at a time all succeed.
#[tokio::test(flavor = "multi_thread")]
async fn two_database_connections_are_enough_for_all_calls() {
    let servers = Servers::start(&[]).await.set("storage.database_pool", "2");
    servers.add_user("ben").await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(caller.login("ada").await);
    }
    let all = sessions.iter().map(|session| async {
        // The queue for a connection is short: some calls are refused, and retry.
        let (next, _) = caller.refresh_until_answered(&session.refresh_token).await.unwrap();
        eventually("the session is revoked", Duration::from_mins(1), || async {
            caller.revoke(Target::Token(next.refresh_token.clone())).await.ok()
        })
        .await;
        eventually("another user logs in", Duration::from_mins(1), || async {
            caller.issue("ben", PASSWORD).await.ok()
        })
        .await;
        caller.until_revoked(&next.access_token).await;
    });
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_are_revoked_in_one_round_trip_to_each_store() {
    let servers = without_background_calls().await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    // The first revocation prepares the statement and loads the script.
    let other = servers.add_user("ben").await;
    caller.login("ben").await;
    assert_eq!(caller.revoke(Target::UserId(other)).await.unwrap(), 1);

    let ada = servers
        .database
        .scalar("SELECT id FROM users WHERE username = 'ada'")
        .await;
    // A heartbeat of the replica may fall into the count, so the cheapest of several revocations is taken.
    let (mut statements, mut ran) = (u64::MAX, u64::MAX);
    for _ in 0..5 {
        let mut sessions = Vec::new();
        while sessions.len() < SESSIONS {
            sessions.extend(join_all((0..20).map(|_| caller.login("ada"))).await);
        }
        let before = (servers.postgres.statements(), script_calls(&servers));
        let ended = caller.revoke(Target::UserId(ada.clone())).await.unwrap();
        let after = (servers.postgres.statements(), script_calls(&servers));
        assert_eq!(ended as usize, SESSIONS);
        for session in sessions.iter().step_by(101) {
            let refused = caller.refresh(&session.refresh_token).await;
            assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
            assert!(caller.inactive_reason(&session.access_token).await.is_some());
        }
        statements = statements.min(after.0 - before.0);
        ran = ran.min(after.1 - before.1);
        if (statements, ran) == (1, 2) {
            break;
        }
    }
    println!("{SESSIONS} sessions of a user ended by {statements} SQL statement and {ran} Redis scripts");
    // One script revokes the sessions, the other announces that to the replicas. Both run at the same time.
    assert_eq!((statements, ran), (1, 2));
}
