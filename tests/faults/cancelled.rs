//! Callers cancel in the middle of a transaction. The transaction commits or rolls back, and its connection is clean
//! when the next call uses it.

use std::sync::Arc;
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::proxy::LinkState;
use crate::support::{Caller, PASSWORD, Servers, eventually};

const CALLS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_leave_no_open_transaction() {
    let servers = Servers::start(&[]).await;
    let ada = servers.database.scalar("SELECT id FROM users").await;
    servers.add_user("ben").await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    servers.to_postgres.set(LinkState::Up(Duration::from_millis(10)));

    let at_once = Arc::new(Semaphore::new(40));
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        let permit = Arc::clone(&at_once).acquire_owned().await.unwrap();
        let (caller, session, ada) = (caller.clone(), session.clone(), ada.clone());
        calls.spawn(async move {
            let _permit = permit;
            // Dropping the call resets its stream. The server then drops its handler wherever that is.
            let limit = Duration::from_millis(1 + n * 7 % 80);
            let _ = timeout(limit, async {
                match n % 4 {
                    0 => caller.issue("ada", PASSWORD).await.map(drop),
                    1 => caller.refresh(&session.refresh_token).await.map(drop),
                    2 => caller.revoke(Target::Token(session.access_token)).await.map(drop),
                    _ => caller.revoke(Target::UserId(ada)).await.map(drop),
                }
            })
            .await;
        });
    }
    calls.join_all().await;

    servers.to_postgres.set(LinkState::Up(Duration::ZERO));
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    eventually("every transaction has ended", Duration::from_secs(10), || async {
        (servers.database.scalar(open).await == "0").then_some(())
    })
    .await;
    // Transactions whose callers are gone run to their end, and until then the pool may be full.
    eventually("calls are admitted again", Duration::from_mins(1), || async {
        caller.issue("ben", PASSWORD).await.ok()
    })
    .await;
    for _ in 0..50 {
        // Another user: a revocation of the first user may commit late.
        let session = caller.login("ben").await;
        caller.refresh(&session.refresh_token).await.unwrap();
        caller.revoke(Target::Token(session.access_token)).await.unwrap();
    }
    let log = servers.postgres.log();
    assert!(
        !log.contains("current transaction is aborted"),
        "25P02: a connection came back with a failed transaction"
    );
    assert!(
        !log.contains("there is already a transaction in progress"),
        "a connection came back inside a transaction"
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
