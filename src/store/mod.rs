//! The stores' traits and their MUSTs.
//!
//! Every verb is one whole atomic transition: no rule reads, checks and writes in steps. What holds for all:
//!
//! * A verb that returns `Ok` has happened and is durable; one that returns `STORE_UNAVAILABLE` may have happened.
//! * Dropping the future MUST NOT leave a half-done transition, an open transaction or a poisoned connection.
//! * An [`AuditEvent`] that a verb takes MUST be written in the same transaction as the change, or neither is.
//! * A store that cannot be asked answers `STORE_UNAVAILABLE` within its timeout, never "not found".
//!
//! `tests/conformance` runs one list of cases on every backend.

pub mod accounts;
mod audited;
mod change;
pub mod keys;
pub mod local;
pub mod migrate;
pub mod postgres;
pub mod redis;
pub mod revocations;
pub mod sessions;
pub mod sqlite;
pub mod throttles;

pub use accounts::{AuditQuery, AuditStore, ClientStore, Login, MachineLogin, Page, RefreshView, UserStore};
pub use audited::Audited;
pub use keys::KeyStore;
pub use migrate::SchemaState;
pub use revocations::{
    Announcements, Changes, Cursor, Expiry, Heard, NewRevocation, Recorded, RevocationStore, Snapshot,
};
pub use sessions::SessionStore;
pub use throttles::ThrottleStore;

#[cfg(doc)]
use crate::model::AuditEvent;

/// What keeps the facts that outlive everything: people, clients, keys, revocations, audit.
pub trait DurableStore: UserStore + ClientStore + KeyStore + RevocationStore + AuditStore {}

impl<T: UserStore + ClientStore + KeyStore + RevocationStore + AuditStore> DurableStore for T {}
