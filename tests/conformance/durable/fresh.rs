//! A fresh store of each backend.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;

use countersign::clock::SystemClock;
use countersign::store::DurableStore;
use countersign::store::sqlite::{Database, Mode, SqliteStore};

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
