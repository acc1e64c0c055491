//! The durable store of an embedded deployment.

use super::Database;

/// People, clients, keys, revocations and the audit trail in a data folder's database.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    pub(super) db: Database,
}

impl SqliteStore {
    /// The store in this database.
    #[must_use]
    pub const fn new(db: Database) -> Self {
        Self { db }
    }
}
