//! What only PostgreSQL can do to us: transactions that commit late, servers that go away, pools that run out.

use std::sync::Arc;
use std::time::Duration;

use countersign::store::postgres::{PostgresConfig, PostgresStore};

use crate::durable::fresh::{Fresh, config};
use crate::support::Database;

mod failures;
mod feed;
mod pool;
mod purge;
mod schema;

/// A store on this database, with these limits.
async fn store_with(url: &str, change: impl FnOnce(&mut PostgresConfig)) -> Fresh {
    let mut config = config(url);
    // A busy machine is no fault; what is about giving up sets its own.
    config.acquire_timeout = Duration::from_secs(5);
    config.statement_timeout = Duration::from_secs(5);
    change(&mut config);
    let store = PostgresStore::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    Fresh::new(store, Arc::new(()))
}

/// A fresh database with a store on it.
async fn fresh() -> (Database, Fresh) {
    let database = Database::fresh().await;
    let store = store_with(database.url(), |_| {}).await;
    (database, store)
}

/// How many connections to the database are in this state, our own aside.
async fn connections(database: &Database, state: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE '{state}'"
    );
    database.scalar(&sql).await.parse().unwrap()
}
