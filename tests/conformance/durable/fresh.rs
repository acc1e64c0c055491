//! A new store of each backend.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::config::DatabaseUrl;
use countersign::store::DurableStore;
use countersign::store::postgres::{PostgresConfig, PostgresStore};
use countersign::store::sqlite::{Database, Mode};

use crate::support;

/// A store, with the resources that must outlive it.
#[derive(Clone)]
pub(crate) struct TestStore {
    pub(crate) store: Arc<dyn DurableStore>,
    _kept: Arc<dyn Any + Send + Sync>,
}

impl TestStore {
    /// Wraps a store.
    pub(crate) fn new(store: impl DurableStore + 'static, kept: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            store: Arc::new(store),
            _kept: kept,
        }
    }
}

impl Deref for TestStore {
    type Target = dyn DurableStore;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

pub(super) async fn sqlite() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Mode::Serve, Arc::new(SystemClock::new())).unwrap();
    TestStore::new(database, Arc::new(folder))
}

pub(super) async fn postgres() -> TestStore {
    let database = support::Database::fresh().await;
    let url = database.url().to_owned();
    of_postgres(&url, Arc::new(database)).await
}

/// Postgres behind a pooler, which may run successive transactions on different server connections.
pub(super) async fn pooled() -> TestStore {
    let database = support::Database::fresh().await;
    let url = database.url_through(support::Pooler::shared(&database).address());
    of_postgres(&url, Arc::new(database)).await
}

async fn of_postgres(url: &str, kept: Arc<dyn Any + Send + Sync>) -> TestStore {
    let store = PostgresStore::connect(&config(url)).await.unwrap();
    store.migrate().await.unwrap();
    TestStore::new(store, kept)
}

/// The defaults, but with a pool small enough for many tests at once.
pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig {
        url: DatabaseUrl::parse(&url.into()).unwrap(),
        pool: 5,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    }
}
