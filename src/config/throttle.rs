//! `[throttle]`: limits on failed logins.

use serde::{Deserialize, Serialize};

use super::text::Rate;
use super::values::optional;

/// `[throttle]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throttle {
    /// Whether there are any.
    pub enabled: bool,
    /// Of one account from one source.
    pub account_source: Rate,
    /// Of one account.
    pub account: Rate,
    /// From one source.
    pub source: Rate,
    /// Of everybody together.
    #[serde(default, deserialize_with = "optional")]
    pub global: Option<Rate>,
}
