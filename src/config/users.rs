//! `[users]`: which callers may create users.

use serde::{Deserialize, Serialize};

/// The section `[users]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Users {
    /// Which callers may call `CreateUser`.
    #[serde(deserialize_with = "super::values::keyword")]
    pub registration: Registration,
}

/// Which callers may call `CreateUser`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Only callers with `countersign:users`.
    Closed,
    /// Every caller, but only with a username, an e-mail address, a display name and a password.
    Open,
}
