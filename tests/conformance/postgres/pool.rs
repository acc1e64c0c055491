use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::{AuditType, ErrorKind};
use countersign::store::accounts::{Authority, UserChange};
use countersign::store::postgres::CONNECTIONS_BESIDE_POOL;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::time::{Instant, timeout};

use super::{connections, store_with};
use crate::durable::samples::*;
use crate::support::proxy::{AfterLoss, LinkState};
use crate::support::{Database, Pooler, Postgres, Proxy, eventually};

/// PostgreSQL compiles statements that it takes for dear, which takes longer than to run ours.
#[tokio::test]
async fn no_statement_is_compiled() {
    let server = Postgres::start(&[
        ("shared_preload_libraries", "pg_stat_statements"),
        ("jit_above_cost", "0"),
    ]);
    let database = server.database().await;
    database.execute("CREATE EXTENSION pg_stat_statements").await;
    let store = store_with(database.url(), |_| {}).await;
    store.era().await.unwrap();
    database.scalar("SELECT count(*) FROM counters").await;
    let counted = async |sum: &str, statement: &str| -> u64 {
        let sql = format!("SELECT sum({sum}) FROM pg_stat_statements WHERE query LIKE '{statement}'");
        database.scalar(&sql).await.parse().unwrap()
    };
    assert_eq!(counted("calls", "SELECT meta.era%").await, 1);
    assert_eq!(counted("jit_functions", "SELECT meta.era%").await, 0);
    // The same server compiles those of others.
    assert!(counted("jit_functions", "SELECT count(*) FROM counters%").await > 0);
}

#[tokio::test]
async fn calls_beyond_the_queue_of_the_pool_are_rejected_at_once() {
    let database = Database::fresh().await;
    let fresh = store_with(database.url(), |config| {
        config.pool = 2;
        config.acquire_timeout = Duration::from_secs(2);
        config.statement_timeout = Duration::from_secs(3);
    })
    .await;
    let user = make_user(&fresh, "ada").await;
    let cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    let mut foreign = database.connect().await;
    let mut holding = foreign.begin().await.unwrap();
    let hold = format!("SELECT FROM users WHERE id = '{}' FOR UPDATE", user.id);
    sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut *holding).await.unwrap();

    let started = Instant::now();
    let attempts = (0..10).map(|_| {
        let (fresh, id) = (fresh.clone(), user.id);
        async move {
            let done = fresh
                .update_user(id, &disabled(true), None, Authority::Admin, &some_event())
                .await;
            (done.unwrap_err().kind, started.elapsed())
        }
    });
    let reads = async {
        // Validate does not use the pool, and the feed of revocations has connections of its own.
        tokio::time::sleep(Duration::from_millis(200)).await;
        fresh.revocations_since(&cursor).await.unwrap();
        fresh.ping().await.unwrap();
        started.elapsed()
    };
    let (done, reads) = tokio::join!(join_all(attempts), reads);
    let (rejected, waited): (Vec<_>, Vec<_>) = done.iter().partition(|(kind, _)| *kind == ErrorKind::Overloaded);
    assert_eq!(rejected.len(), 6, "two have a connection, two wait: {done:?}");
    assert!(
        waited.iter().all(|(kind, _)| *kind == ErrorKind::StoreUnavailable),
        "{done:?}"
    );
    // At once means before the first waiting call timed out.
    let first = waited.iter().map(|(_, after)| *after).min().unwrap();
    assert!(rejected.iter().all(|(_, after)| *after < first), "{done:?}");
    assert!(reads < first, "{reads:?}: {done:?}");

    holding.rollback().await.unwrap();
    fresh
        .update_user(user.id, &disabled(true), None, Authority::Admin, &some_event())
        .await
        .unwrap();
}

#[tokio::test]
async fn cancelled_calls_leave_no_open_transaction() {
    let database = Database::fresh().await;
    let proxy = Proxy::start(database.address()).await;
    let fresh = store_with(&database.url_through(proxy.address()), |_| {}).await;
    let user = make_user(&fresh, "ada").await;
    proxy.set(LinkState::Up(Duration::from_millis(10)));
    let change = UserChange {
        display_name: Some("Ada".into()),
        ..UserChange::default()
    };
    for n in 0..500_u64 {
        let event = event(AuditType::UserUpdated, &user.id);
        let limit = Duration::from_millis(1 + n % 20);
        let _ = match n % 3 {
            0 => {
                let update = fresh.update_user(user.id, &change, None, Authority::Admin, &event);
                timeout(limit, update).await.map(drop)
            }
            1 => timeout(limit, fresh.login(&user.username, &client_id("web")))
                .await
                .map(drop),
            _ => timeout(limit, revoke_ignoring_errors(&fresh, user.id)).await.map(drop),
        };
    }
    proxy.set(LinkState::Up(Duration::ZERO));
    let idle = async || (connections(&database, "idle in transaction%").await == 0).then_some(());
    eventually("no transaction is left open", Duration::from_secs(10), idle).await;
    // No connection was returned to the pool inside a transaction.
    for _ in 0..50 {
        fresh.login(&user.username, &client_id("web")).await.unwrap();
        fresh
            .update_user(user.id, &change, None, Authority::Admin, &some_event())
            .await
            .unwrap();
    }
}

async fn revoke_ignoring_errors(fresh: &crate::durable::fresh::TestStore, user: countersign::model::UserId) {
    let new = countersign::store::NewRevocation {
        target: everything_of(user),
        expires: countersign::store::Expiry::LongestSession,
    };
    let _ = fresh.revoke(&new, &some_event()).await;
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_works() {
    let database = Database::fresh().await;
    let between = Pooler::start(&database);
    let stores = [
        store_with(&database.url_through(between.address()), |_| {}).await,
        store_with(&database.url_through(between.address()), |_| {}).await,
    ];
    let user = make_user(&stores[0], "ada").await;
    // Eight connections of two replicas share two server connections: prepared statements of one meet the other.
    let logins = (0..8).map(|n| {
        let (fresh, user) = (stores[n % 2].clone(), user.clone());
        async move {
            for _ in 0..30 {
                let login = fresh.login(&user.username, &client_id("web")).await.unwrap();
                assert_eq!(login.user.unwrap().0, user);
                let machine = fresh.machine_login(&client_id("web")).await.unwrap();
                assert!(machine.client.is_none());
            }
        }
    });
    join_all(logins).await;
    let log = between.log();
    assert!(log.contains("unsupported startup parameter: options"), "{log}");
}

#[tokio::test]
async fn a_connection_that_has_just_answered_is_used_without_a_check() {
    /// Synchronises with the server and does nothing else (PostgreSQL documentation, "Message Formats").
    const SYNC: &[u8] = b"S\0\0\0\x04";
    const CALLS: usize = 100;
    let database = Database::fresh().await;
    let proxy = Proxy::start(database.address()).await;
    let fresh = store_with(&database.url_through(proxy.address()), |_| {}).await;
    let user = make_user(&fresh, "ada").await;
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let count = move |request: &[u8]| {
        counted.fetch_add(usize::from(request == SYNC), Ordering::SeqCst);
        false
    };
    proxy.lose_reply(count, AfterLoss::Close);
    for _ in 0..CALLS {
        fresh.user(user.id).await.unwrap();
    }
    // Once in several seconds there is one, however fast the calls are.
    let checks = checks.load(Ordering::SeqCst);
    assert!(checks < CALLS / 4, "{checks} checks of {CALLS} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_take_turns_with_few_connections() {
    let database = Database::fresh().await;
    let fresh = store_with(database.url(), |config| {
        config.pool = 4;
        config.acquire_timeout = Duration::from_secs(30);
    })
    .await;
    let user = make_user(&fresh, "ada").await;
    // Half of them wait.
    let callers = (0..8).map(|_| {
        let (fresh, id) = (fresh.clone(), user.id);
        tokio::spawn(async move {
            for _ in 0..100 {
                assert!(fresh.user(id).await.unwrap().is_some());
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let open = connections(&database, "%").await;
    assert!(open <= 4 + CONNECTIONS_BESIDE_POOL as usize, "{open}");
}
