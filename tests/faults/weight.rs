//! Logging a user out costs the same however many sessions they have: one round trip to each store.

use countersign::proto::revoke_request::Target;
use futures_util::future::join_all;
use tonic::Code;

use crate::support::{Caller, Servers, assert_refused};

const SESSIONS: usize = 1_000;

/// How often Redis was asked to run a script.
fn scripts(servers: &Servers) -> u64 {
    let stats = servers.redis.command(&["INFO", "commandstats"]);
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_eval"))
        .filter_map(calls)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_end_in_one_round_trip_to_each_store() {
    let servers = Servers::start(&[])
        .await
        // What goes on by itself meanwhile would be counted too.
        .set("revocation.max_staleness", "2h")
        .set("revocation.reconcile_interval", "1h")
        .set("storage.redis_timeout", "5s")
        .set("storage.statement_timeout", "5s");
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    // Both stores know the statement and the script.
    let other = servers.add_user("ben").await;
    caller.login("ben").await;
    assert_eq!(caller.revoke(Target::UserId(other)).await.unwrap(), 1);

    let ada = servers
        .database
        .scalar("SELECT id FROM users WHERE username = 'ada'")
        .await;
    // A heartbeat of the replica may fall into the count: of several log-outs, the cheapest tells what one costs.
    let (mut statements, mut ran) = (u64::MAX, u64::MAX);
    for _ in 0..5 {
        let mut sessions = Vec::new();
        while sessions.len() < SESSIONS {
            sessions.extend(join_all((0..20).map(|_| caller.login("ada"))).await);
        }
        let before = (servers.postgres.statements(), scripts(&servers));
        let ended = caller.revoke(Target::UserId(ada.clone())).await.unwrap();
        let after = (servers.postgres.statements(), scripts(&servers));
        assert_eq!(ended as usize, SESSIONS);
        for session in sessions.iter().step_by(101) {
            let refused = caller.refresh(&session.refresh_token).await;
            assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
            assert!(caller.inactive(&session.access_token).await.is_some());
        }
        statements = statements.min(after.0 - before.0);
        ran = ran.min(after.1 - before.1);
        if (statements, ran) == (1, 2) {
            break;
        }
    }
    println!("{SESSIONS} sessions of a user ended by {statements} SQL statement and {ran} Redis scripts");
    // One script ends the sessions, the other tells the replicas; they do not wait for each other.
    assert_eq!((statements, ran), (1, 2));
}
