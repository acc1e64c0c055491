//! `[revocation]`: how up to date the index of revocations must be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::duration;

/// The section `[revocation]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// The time between two reads of the recorded revocations.
    #[serde(with = "duration")]
    pub reconcile_interval: Duration,
    /// The greatest age of the last read with which Validate still answers.
    #[serde(with = "duration")]
    pub max_staleness: Duration,
    /// What Validate does after that.
    #[serde(deserialize_with = "super::values::keyword")]
    pub on_stale: OnStale,
}

/// What Validate does when the index of revocations is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// Fail with `UNAVAILABLE`.
    FailClosed,
    /// Answer from the old index.
    Serve,
}

impl Revocation {
    pub(super) fn check(&self) -> CheckResult {
        let (millisecond, hour) = (Duration::from_millis(1), Duration::from_hours(1));
        check::duration(
            "revocation.reconcile_interval",
            self.reconcile_interval,
            10 * millisecond..=hour,
        )?;
        check::duration(
            "revocation.max_staleness",
            self.max_staleness,
            100 * millisecond..=24 * hour,
        )?;
        if self.max_staleness <= self.reconcile_interval {
            let problem = "must be longer than revocation.reconcile_interval, else revocations are always stale";
            return Err(ConfigError::at("revocation.max_staleness", problem));
        }
        Ok(())
    }
}
