//! Postgres is frozen or very slow. No call waits for long, and every call that needs it fails with `UNAVAILABLE`,
//! not with a refusal.

use std::time::Duration;

use countersign::proto::Tokens;
use countersign::proto::revoke_request::Target;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::support::caller::reason;
use crate::support::proxy::LinkState;
use crate::support::{Caller, PASSWORD, Servers, eventually};

/// `acquire_timeout` plus `statement_timeout`, plus a margin for a busy machine.
const MAX_WAIT: Duration = Duration::from_secs(12);

async fn assert_unavailable<T>(what: &str, call: impl Future<Output = Result<T, Status>>) {
    let start = Instant::now();
    let Err(status) = call.await else {
        panic!("{what} succeeded without a database")
    };
    assert_eq!(
        reason(&status),
        (Code::Unavailable, "STORE_UNAVAILABLE".into()),
        "{what}: {status:?}"
    );
    assert!(start.elapsed() < MAX_WAIT, "{what} took {:?}", start.elapsed());
}

/// Makes every call that needs Postgres at once, and Validate, which does not need it.
async fn assert_cut_off(caller: &Caller, session: &Tokens) {
    let validate = async {
        // The fastest of several calls: one that waited for Postgres would wait each time.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            caller.assert_active(&session.access_token).await;
            best = best.min(start.elapsed());
        }
        assert!(best < Duration::from_secs(1), "Validate took {best:?}");
    };
    tokio::join!(
        assert_unavailable("Issue", caller.issue("ada", PASSWORD)),
        assert_unavailable("Issue to an unknown user", caller.issue("nobody", PASSWORD)),
        assert_unavailable("Refresh", caller.refresh(&session.refresh_token)),
        assert_unavailable("Revoke", caller.revoke(Target::Token(session.refresh_token.clone()))),
        validate,
    );
}

async fn until_it_works(caller: &Caller) -> Tokens {
    eventually("logins work again", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_frozen_postgres_time_out() {
    let mut servers = Servers::start(&[]).await.with_default_timeouts();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    servers.postgres.freeze();
    for _ in 0..2 {
        Box::pin(assert_cut_off(&caller, &session)).await;
    }
    servers.postgres.thaw();
    until_it_works(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_a_slow_network_to_postgres_time_out() {
    let servers = Servers::start(&[]).await.with_default_timeouts();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    servers.to_postgres.set(LinkState::Up(Duration::from_secs(5)));
    Box::pin(assert_cut_off(&caller, &session)).await;
    servers.to_postgres.set(LinkState::Up(Duration::ZERO));
    until_it_works(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_has_server_side_timeouts() {
    let servers = Servers::start(&[]).await.with_default_timeouts();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    caller.login("ada").await;
    // The server itself ends a statement that hangs, even if Countersign is gone.
    let mut lock = servers.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        .execute(&mut lock)
        .await
        .unwrap();
    assert_unavailable("Issue", caller.issue("ada", PASSWORD)).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("Postgres ends the waiting statement", MAX_WAIT, || async {
        (servers.database.scalar(waiting).await == "0").then_some(())
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    until_it_works(&caller).await;
}
