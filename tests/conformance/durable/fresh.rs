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
pub(super) struct Fresh {
    pub(super) store: Arc<dyn DurableStore>,
    _kept: Arc<dyn Any + Send + Sync>,
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
    Fresh {
        store: Arc::new(SqliteStore::new(database)),
        _kept: Arc::new(folder),
    }
}

pub(super) async fn postgres() -> Fresh {
    let database = support::Database::fresh().await;
    let store = PostgresStore::connect(&config(database.url())).await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), 1);
    Fresh {
        store: Arc::new(store),
        _kept: Arc::new(database),
    }
}

/// As the defaults say, but with a pool that many tests at once can have.
pub(super) fn config(url: &str) -> PostgresConfig {
    PostgresConfig {
        url: SecretText::new(url),
        pool: 5,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    }
}
