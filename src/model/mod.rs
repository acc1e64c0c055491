//! The data types of the service: ids, epochs, scopes, claims, sessions, users, clients, keys, revocations, audit events,
//! and the error type. Plain data without I/O, async code or transport.

pub mod audit;
mod audit_type;
pub mod bearer;
#[cfg(feature = "server")]
pub mod caller;
pub mod claims;
pub mod client;
pub mod epoch;
pub mod error;
pub mod grant;
pub mod ids;
pub mod inactive;
pub mod key;
#[cfg(feature = "server")]
pub mod network;
#[cfg(feature = "server")]
pub mod record;
pub mod revocation;
pub mod scope;
pub mod session;
#[cfg(feature = "server")]
pub mod source;
pub mod text;
#[cfg(feature = "server")]
pub mod user;

pub use audit::{AuditEvent, AuditType, Outcome};
#[cfg(feature = "server")]
pub use caller::{Caller, Identity};
pub use claims::{Actor, Claims};
pub use client::{Client, ClientChange, Grant, ReusePolicy};
pub use epoch::{Epochs, TokenEpochs};
pub use error::{Error, ErrorKind, Result, Violation};
pub use grant::Narrowing;
pub use ids::{ClientId, KeyId, SessionId, TokenId, UserId, new_uuid};
pub use inactive::InactiveReason;
pub use key::{Algorithm, KeyState};
#[cfg(feature = "server")]
pub use network::Network;
pub use revocation::{Level, Revocation, Target};
pub use scope::CallerScope;
pub use session::{Rotation, SessionContext};
#[cfg(feature = "server")]
pub use source::Source;
#[cfg(feature = "server")]
pub use user::{User, Username};
