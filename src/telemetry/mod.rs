//! Logs, the log of the audit trail, metrics and traces.
//!
//! Telemetry must not delay a call, reveal a secret, or let a caller fill a disk. Lines go through bounded queues to threads that write them;
//! while standard error is blocked, lines are dropped and counted. Of lines of one kind, only the first of each minute are
//! written. Each call site chooses what it logs: ids, never
//! tokens, passwords or keys. `TRACE` events of other crates are never written, because some contain headers and
//! arguments.

mod json;
mod line_limit;
mod logs;
mod metrics;
mod process;
mod sanitize;
mod traces;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Write as _, stderr};

use crate::config::{self, LogFormat};
use crate::model::{Error, Result};

pub use metrics::Metrics;
pub use traces::adopt;

use traces::Traces;

/// The target of audit events. They are written whatever the log filter is, by a queue and thread of their own.
pub const AUDIT_TARGET: &str = crate::model::audit::LOG_TARGET;

/// The logs, metrics and traces of the process. Dropping it writes the queued lines, for at most about a second.
#[derive(Debug)]
pub struct Telemetry {
    /// The metrics, for the HTTP port.
    pub metrics: Metrics,
    traces: Option<Traces>,
    writers: logs::Writers,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.writers.limits.iter().for_each(|limit| limit.report(true));
    }
}

impl Telemetry {
    /// Starts logs, metrics and traces, once in a process. Traces need an entered Tokio runtime.
    ///
    /// # Errors
    /// `Internal` if telemetry was started before; `INVALID_REQUEST` if the collector's address cannot be used.
    pub fn init(config: &config::Telemetry) -> Result<Self> {
        let terminal = stderr().is_terminal();
        let traces = config.otlp_endpoint.as_deref().map(Traces::start).transpose();
        let traces = traces.map_err(|error| Error::invalid("telemetry.otlp_endpoint", error.to_string()))?;
        let layer = traces.as_ref().map(Traces::layer);
        let (subscriber, writers) = logs::subscriber(config, terminal, stderr, stderr, layer)?;
        logs::install(subscriber)?;
        std::panic::set_hook(Box::new(log_panic));
        let metrics = Metrics::install(
            vec![
                ("audit", writers.audit_dropped.clone()),
                ("log", writers.log_dropped.clone()),
            ],
            writers.limits.to_vec(),
        )?;
        traces::describe();
        Ok(Self {
            metrics,
            traces,
            writers,
        })
    }

    /// Sends the last spans. The runtime in which telemetry was started must still run.
    pub fn finish(&self) {
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

/// Writes why the process does not start, as a line of the log if the log is JSON; returns whether it did. `configured` is the
/// format of the configuration, if it sets one. The line is written whatever the log filter is.
#[must_use]
pub fn log_start_failure(configured: Option<LogFormat>, message: &str, exit_code: u8) -> bool {
    if LogFormat::or_default(configured, stderr().is_terminal()) != LogFormat::Json {
        return false;
    }
    let line = json::start_failure(message, exit_code);
    // A failure to write to a closed stream cannot be reported.
    let _ = writeln!(stderr().lock(), "{}", sanitize::sanitized(&line));
    true
}

/// Logs a panic. A formatted message may contain secret values, so only a literal message is logged.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let message = info.payload().downcast_ref::<&'static str>().copied();
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, message = message.unwrap_or("a panic"), "panicked");
}

/// Whether events of this target are this crate's.
fn is_ours(target: &str) -> bool {
    target == "countersign" || target.starts_with("countersign::")
}

fn already_installed(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("telemetry was started twice: {error}"))
}
