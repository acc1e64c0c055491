//! `[telemetry]`: logs, traces, and how long the audit trail is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::environment;
use super::error::ConfigError;
use super::layers::{Layers, read_file};
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

impl LogFormat {
    /// The configured format, or the default: text on a terminal, else JSON.
    #[must_use]
    pub fn or_default(configured: Option<Self>, terminal: bool) -> Self {
        configured.unwrap_or(if terminal { Self::Text } else { Self::Json })
    }

    /// The format that these layers set, for a message about a configuration that cannot be loaded; none if they set none.
    #[must_use]
    pub fn of_broken(layers: &Layers<'_>) -> Option<Self> {
        const KEY: &str = "telemetry.log_format";
        let parse = |text: &str| match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        };
        let flag = layers.flags.iter().find(|flag| flag.key == KEY);
        if let Some(flag) = flag {
            return parse(&flag.value);
        }
        let name = environment::name_of(KEY);
        let variable = layers.environment.iter().find(|(known, _)| *known == *name);
        if let Some((_, value)) = variable {
            return parse(value.to_str()?);
        }
        let file: toml::Table = read_file(layers.file?).ok()?.parse().ok()?;
        parse(file.get("telemetry")?.get("log_format")?.as_str()?)
    }
}

impl Telemetry {
    /// The format of the log, which goes to a terminal or not.
    #[must_use]
    pub fn format(&self, terminal: bool) -> LogFormat {
        LogFormat::or_default(self.log_format, terminal)
    }

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
