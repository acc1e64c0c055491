//! The durable store of an embedded deployment.

use super::Database;

/// Users, clients, keys, revocations and the audit trail in the database of a data folder.
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
