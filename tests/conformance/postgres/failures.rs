use std::time::Duration;

use countersign::model::ErrorKind;
use countersign::store::accounts::Authority;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};

use super::{connections, fresh, store_with};
use crate::durable::fresh::TestStore;
use crate::durable::samples::*;
use crate::support::{Postgres, eventually};

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Makes reads and writes. Returns the kind of the first error.
async fn works(fresh: &TestStore) -> Result<(), ErrorKind> {
    let kind = |error: countersign::model::Error| error.kind;
    fresh.login(&name("ada"), &client_id("web")).await.map_err(kind)?;
    let id = countersign::model::UserId(uuid());
    let missing = fresh
        .update_user(id, &disabled(true), None, Authority::Admin, &some_event())
        .await
        .unwrap_err();
    if missing.kind != ErrorKind::UserNotFound {
        return Err(missing.kind);
    }
    fresh.append_audit(&some_event()).await.map_err(kind)?;
    fresh.ping().await.map_err(kind)
}

/// Opens all connections of the pool.
async fn warm_up(fresh: &TestStore) {
    let done = join_all((0..5).map(|_| works(fresh))).await;
    assert_eq!(done, [Ok(()); 5]);
}

#[tokio::test]
async fn terminated_connections_are_replaced_without_an_error() {
    let (database, fresh) = fresh().await;
    for _ in 0..3 {
        warm_up(&fresh).await;
        database.execute(TERMINATE).await;
        warm_up(&fresh).await;
    }
}

#[tokio::test]
async fn constantly_terminated_connections_are_at_worst_unavailable() {
    let (database, fresh) = fresh().await;
    let storm = async {
        for _ in 0..40 {
            database.execute(TERMINATE).await;
            sleep(Duration::from_millis(10)).await;
        }
    };
    let calls = join_all((0..4).map(|_| async {
        for _ in 0..50 {
            match works(&fresh).await {
                Ok(()) | Err(ErrorKind::StoreUnavailable) => {}
                Err(kind) => panic!("{kind:?}"),
            }
        }
    }));
    tokio::join!(storm, calls);
    warm_up(&fresh).await;
    assert_eq!(connections(&database, "idle in transaction%").await, 0);
}

#[tokio::test]
async fn a_connection_that_cannot_write_is_replaced() {
    let (database, _) = fresh().await;
    let set = async |what: &str| {
        let mut connection = database.connect().await;
        let alter = format!("ALTER DATABASE {} {what}", database.name());
        for sql in ["SET default_transaction_read_only = off", &alter] {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
        }
    };
    set("SET default_transaction_read_only = on").await;
    let fresh = store_with(database.url(), |_| {}).await;
    assert_eq!(
        works(&fresh).await,
        Err(ErrorKind::StoreUnavailable),
        "not INTERNAL, and never a false OK"
    );
    assert!(
        fresh.login(&name("ada"), &client_id("web")).await.is_ok(),
        "reads still work"
    );
    // New connections could write again; the open ones keep the old setting.
    set("RESET default_transaction_read_only").await;
    warm_up(&fresh).await;
}

#[tokio::test]
async fn calls_to_a_frozen_server_time_out() {
    let mut server = Postgres::start(&[]);
    let database = server.database().await;
    let fresh = store_with(database.url(), |config| {
        config.acquire_timeout = Duration::from_millis(500);
        config.statement_timeout = Duration::from_millis(500);
    })
    .await;
    warm_up(&fresh).await;
    server.freeze();
    let started = Instant::now();
    let writes = (0..8).map(|_| async { fresh.append_audit(&some_event()).await.map_err(|error| error.kind) });
    let done = join_all(writes).await;
    let took = started.elapsed();
    server.thaw();
    assert_eq!(done, [Err(ErrorKind::StoreUnavailable); 8]);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let recovers = async || works(&fresh).await.ok();
    eventually("the pool recovers", Duration::from_secs(30), recovers).await;
    assert_eq!(connections(&database, "idle in transaction%").await, 0);
}

#[tokio::test]
async fn the_pool_recovers_after_a_crash() {
    let mut server = Postgres::start(&[]);
    let database = server.database().await;
    let fresh = store_with(database.url(), |config| config.acquire_timeout = Duration::from_secs(2)).await;
    warm_up(&fresh).await;
    for how in [Signal::SIGINT, Signal::SIGQUIT] {
        server.stop(how);
        let started = Instant::now();
        for _ in 0..3 {
            assert_eq!(works(&fresh).await, Err(ErrorKind::StoreUnavailable));
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        server.launch();
        let recovers = async || works(&fresh).await.ok();
        eventually("the pool recovers", Duration::from_secs(30), recovers).await;
        warm_up(&fresh).await;
    }
}
