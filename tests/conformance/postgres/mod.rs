//! Faults that only PostgreSQL has: transactions that commit late, servers that go away, pools that are exhausted.

use std::sync::Arc;
use std::time::Duration;

use countersign::store::postgres::{PostgresConfig, PostgresStore};

use crate::durable::fresh::{TestStore, config};
use crate::support::Database;

mod failures;
mod feed;
mod pool;
mod purge;
mod refresh_view;
mod revoke;
mod schema;

/// A store on this database, with these limits.
async fn store_with(url: &str, change: impl FnOnce(&mut PostgresConfig)) -> TestStore {
    let mut config = config(url);
    // Long enough for a busy machine; tests about timeouts set their own.
    config.acquire_timeout = Duration::from_secs(5);
    config.statement_timeout = Duration::from_secs(5);
    change(&mut config);
    let store = PostgresStore::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    TestStore::new(store, Arc::new(()))
}

/// A new database with a store on it.
async fn fresh() -> (Database, TestStore) {
    let database = Database::fresh().await;
    let store = store_with(database.url(), |_| {}).await;
    (database, store)
}

/// How many connections to the database are in this state, without the connection of this query.
async fn connections(database: &Database, state: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE '{state}'"
    );
    database.scalar(&sql).await.parse().unwrap()
}
