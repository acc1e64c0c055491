//! `[revocation]`: how fresh the index of revocations must be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::duration;

/// `[revocation]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Between two reads of the durable revocations.
    #[serde(with = "duration")]
    pub reconcile_interval: Duration,
    /// How old they may be.
    #[serde(with = "duration")]
    pub max_staleness: Duration,
    /// What happens when they are older.
    #[serde(deserialize_with = "super::values::keyword")]
    pub on_stale: OnStale,
}

/// What Validate does when revocations are too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// `UNAVAILABLE`.
    FailClosed,
    /// Answers all the same.
    Serve,
}

impl Revocation {
    pub(super) fn check(&self) -> Checked {
        let (millisecond, hour) = (Duration::from_millis(1), Duration::from_hours(1));
        check::span(
            "revocation.reconcile_interval",
            self.reconcile_interval,
            10 * millisecond..=hour,
        )?;
        check::span(
            "revocation.max_staleness",
            self.max_staleness,
            100 * millisecond..=24 * hour,
        )?;
        if self.max_staleness <= self.reconcile_interval {
            let problem = "must be longer than revocation.reconcile_interval, or every answer is stale";
            return Err(ConfigError::at("revocation.max_staleness", problem));
        }
        Ok(())
    }
}
