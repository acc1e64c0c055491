//! `[users]`: who may make users.

use serde::{Deserialize, Serialize};

/// `[users]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Users {
    /// Who may call `CreateUser`.
    #[serde(deserialize_with = "super::values::keyword")]
    pub registration: Registration,
}

/// Who may call `CreateUser`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Callers with `countersign:users`.
    Closed,
    /// Anyone, with name, e-mail, display name and password only.
    Open,
}
