//! A fresh store of each backend.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::secret::SecretText;
use countersign::store::DurableStore;
use countersign::store::postgres::{PostgresConfig, PostgresStore};
use countersign::store::sqlite::{Database, Mode, SqliteStore};

use crate::support;

/// A store, and what must outlive it.
#[derive(Clone)]
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn DurableStore>,
    _kept: Arc<dyn Any + Send + Sync>,
}

impl Fresh {
    /// This store.
    pub(crate) fn new(store: impl DurableStore + 'static, kept: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            store: Arc::new(store),
            _kept: kept,
        }
    }
}

impl Deref for Fresh {
    type Target = dyn DurableStore;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

pub(super) async fn sqlite() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Mode::Serve, Arc::new(SystemClock::new())).unwrap();
    Fresh::new(SqliteStore::new(database), Arc::new(folder))
}

pub(super) async fn postgres() -> Fresh {
    let database = support::Database::fresh().await;
    let url = database.url().to_owned();
    of_postgres(&url, Arc::new(database)).await
}

/// Postgres behind a pooler, where successive transactions meet different servers.
pub(super) async fn pooled() -> Fresh {
    let database = support::Database::fresh().await;
    let url = database.url_through(support::Pooler::shared(&database).address());
    of_postgres(&url, Arc::new(database)).await
}

async fn of_postgres(url: &str, kept: Arc<dyn Any + Send + Sync>) -> Fresh {
    let store = PostgresStore::connect(&config(url)).await.unwrap();
    store.migrate().await.unwrap();
    Fresh::new(store, kept)
}

/// As the defaults say, but with a pool that many tests at once can have.
pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig {
        url: SecretText::new(url),
        pool: 5,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    }
}
