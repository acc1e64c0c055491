//! Conversions between the model and the messages that only the server handles: users, sessions, clients, keys, audit
//! events. Conversions that client and server share are in `proto::convert`.

pub mod answer;
mod audit;
pub mod check;
pub mod check_request;
mod client;
mod encoded_answers;
mod key;
mod session;
pub mod token;
mod user;

pub use audit::{audit_event, audit_request};
pub use client::{client, client_draft, optional_duration};
pub use key::{key, key_set};
pub use session::{context, session};
pub use user::{import_row, imported, user, user_draft};

use crate::clock::UnixMillis;
use crate::model::{Error, Result};
use crate::proto::convert::time::moment;

/// Converts an optional timestamp; `field` is named in the error.
pub fn optional_moment(timestamp: Option<&prost_types::Timestamp>, field: &'static str) -> Result<Option<UnixMillis>> {
    timestamp.map(|timestamp| moment(timestamp, field)).transpose()
}

/// The message at `field`, which the request must contain.
pub fn required<T>(message: Option<T>, field: &'static str) -> Result<T> {
    message.ok_or_else(|| Error::invalid(field, "is required"))
}

/// The paths of an update mask; empty without a mask.
#[must_use]
pub fn paths(mask: Option<prost_types::FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}
