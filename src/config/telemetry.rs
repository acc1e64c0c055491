//! `[telemetry]`: logs, traces, and how long the audit trail is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::{duration, optional};

/// The section `[telemetry]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Telemetry {
    /// The format of the log. Unset means text on a terminal, else JSON.
    #[serde(default, deserialize_with = "super::values::optional_keyword")]
    pub log_format: Option<LogFormat>,
    /// The log filter, with the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// The OTLP endpoint for traces.
    #[serde(default, deserialize_with = "optional")]
    pub otlp_endpoint: Option<String>,
    /// How long audit events are kept.
    #[serde(with = "duration")]
    pub audit_retention: Duration,
    /// The most audit events of failed attempts that a replica writes in a minute.
    pub audit_failures_per_minute: u32,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

impl Telemetry {
    pub(super) fn check(&self) -> CheckResult {
        let day = Duration::from_hours(24);
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log_filter) {
            return Err(ConfigError::at("telemetry.log_filter", error.to_string()));
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            check::http_url("telemetry.otlp_endpoint", endpoint)?;
        }
        check::duration("telemetry.audit_retention", self.audit_retention, day..=36_600 * day)?;
        check::number(
            "telemetry.audit_failures_per_minute",
            self.audit_failures_per_minute,
            20..=10_000,
        )
    }
}
