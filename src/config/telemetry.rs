//! `[telemetry]`: logs, traces, and how long the audit trail is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::{duration, optional};

/// `[telemetry]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Telemetry {
    /// Unset: text on a terminal, else JSON.
    #[serde(default, deserialize_with = "super::values::optional_keyword")]
    pub log_format: Option<LogFormat>,
    /// As in `RUST_LOG`.
    pub log_filter: String,
    /// Where traces go.
    #[serde(default, deserialize_with = "optional")]
    pub otlp_endpoint: Option<String>,
    /// How long audit events are kept.
    #[serde(with = "duration")]
    pub audit_retention: Duration,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Telemetry {
    pub(super) fn check(&self) -> Checked {
        let day = Duration::from_hours(24);
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log_filter) {
            return Err(ConfigError::at("telemetry.log_filter", error.to_string()));
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            check::http_url("telemetry.otlp_endpoint", endpoint)?;
        }
        check::span("telemetry.audit_retention", self.audit_retention, day..=36_600 * day)
    }
}
