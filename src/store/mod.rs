//! The traits of the stores, and what every backend MUST keep.
//!
//! Every method is one atomic transition: it reads, checks and writes in one transaction. For all methods:
//!
//! * `Ok` means that the change is durable; `STORE_UNAVAILABLE` means that it may have been made.
//! * Dropping the future MUST NOT leave a half-done transition, an open transaction or an unusable connection.
//! * An [`AuditEvent`] argument MUST be written in the same transaction as the change. The structured log is told of it
//!   after the commit. It may miss an event whose caller went away between the commit and the log; the row is there.
//! * A store that does not answer MUST give `STORE_UNAVAILABLE` within its timeout, never "not found".
//!
//! `tests/conformance` runs one list of cases on every backend.

pub mod accounts;
mod change;
mod durable;
pub mod keys;
pub mod local;
pub mod migrate;
mod outage;
pub mod postgres;
pub mod redis;
mod redis_nodes;
pub mod revocations;
pub mod sessions;
pub mod sqlite;
pub mod throttles;

pub use accounts::{AuditQuery, AuditStore, ClientStore, Login, MachineLogin, Page, RefreshView, UserStore};
pub use keys::KeyStore;
pub use migrate::SchemaState;
pub use redis_nodes::RedisNodes;
pub use revocations::{
    AnnouncementEvent, Announcements, Changes, Cursor, DatabaseSide, Expiry, LOST_PART, NewRevocation, Recorded,
    ReloadReason, RevocationStore, SIDE_TTL, Snapshot,
};
pub use sessions::{BackupCounter, COUNTER_STEP, ComparedCounters, SessionStore};
pub use throttles::ThrottleStore;

#[cfg(doc)]
use crate::model::AuditEvent;

/// The store of durable facts: users, clients, keys, revocations and the audit trail.
pub trait DurableStore: UserStore + ClientStore + KeyStore + RevocationStore + AuditStore {}

impl<T: UserStore + ClientStore + KeyStore + RevocationStore + AuditStore> DurableStore for T {}
