//! `[throttle]`: limits on failed logins, registrations and calls of users on their own account.

use serde::{Deserialize, Serialize};

use super::text::Rate;
use super::values::optional;

/// The section `[throttle]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throttle {
    /// Whether anything is limited.
    pub enabled: bool,
    /// The limit for one account from one source address.
    pub account_source: Rate,
    /// The limit for one account from all sources.
    pub account: Rate,
    /// The limit for one source address, for all accounts.
    pub source: Rate,
    /// The limit for all logins together.
    #[serde(default, deserialize_with = "optional")]
    pub global: Option<Rate>,
    /// The limit for open registrations from one source address.
    pub registration: Rate,
    /// The limit for all open registrations together.
    pub registration_global: Rate,
    /// The limit for the logins of one user with the right password.
    pub login: Rate,
    /// The limit for the calls of one user on their own account.
    pub own_account: Rate,
}
