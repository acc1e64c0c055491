//! Row 11: Postgres frozen, or as slow as if it were. Nobody waits for long, and nobody is told "no".

use std::time::Duration;

use countersign::proto::Tokens;
use countersign::proto::revoke_request::Target;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::support::caller::reason;
use crate::support::proxy::Weather;
use crate::support::{Caller, PASSWORD, Servers, eventually};

/// `acquire_timeout` and `statement_timeout`, and what a busy machine adds.
const LONGEST: Duration = Duration::from_secs(12);

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
    assert!(start.elapsed() < LONGEST, "{what} took {:?}", start.elapsed());
}

/// Everything that needs Postgres, at once; and Validate, which does not.
async fn assert_cut_off(caller: &Caller, session: &Tokens) {
    let validate = async {
        // The best of some: one that waited for Postgres would wait every time.
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
        assert_unavailable("Issue to nobody", caller.issue("nobody", PASSWORD)),
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
async fn a_frozen_postgres_is_given_up_on_in_time() {
    let mut servers = Servers::start(&[]).await.giving_up_early();
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
async fn a_slow_network_to_postgres_is_given_up_on_in_time() {
    let servers = Servers::start(&[]).await.giving_up_early();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    servers.to_postgres.set(Weather::Fine(Duration::from_secs(5)));
    Box::pin(assert_cut_off(&caller, &session)).await;
    servers.to_postgres.set(Weather::Fine(Duration::ZERO));
    until_it_works(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_connections_have_every_limit_set() {
    let servers = Servers::start(&[]).await.giving_up_early();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    caller.login("ada").await;
    // What a statement that hangs meets: the server ends it, whatever becomes of us.
    let mut lock = servers.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        .execute(&mut lock)
        .await
        .unwrap();
    assert_unavailable("Issue", caller.issue("ada", PASSWORD)).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("Postgres ends what waits", LONGEST, || async {
        (servers.database.scalar(waiting).await == "0").then_some(())
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    until_it_works(&caller).await;
}
