//! What the service tells of itself: logs, the audit trail's log, metrics, traces.
//!
//! Nothing here may hold a call up or tell a secret. Lines go through bounded queues to threads that write them; when
//! standard error is blocked, lines are dropped and counted. What is logged is chosen where it is logged: ids, never
//! tokens, passwords or keys. Third parties' `TRACE` is never written, because some print headers and arguments there.

mod harmless;
mod logs;
mod metrics;
mod traces;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, stderr};

use crate::config;
use crate::model::{Error, Result};

pub use metrics::Metrics;
pub use traces::adopt;

use traces::Traces;

/// The target of audit events: written whatever the log filter is, and before other lines are.
pub const AUDIT_TARGET: &str = crate::model::audit::LOG_TARGET;

/// Logs, metrics and traces of the process. Dropping it writes what is queued, for at most about a second.
#[derive(Debug)]
pub struct Telemetry {
    /// For the HTTP port.
    pub metrics: Metrics,
    traces: Option<Traces>,
    _writers: logs::Writers,
}

impl Telemetry {
    /// Starts logs, metrics and traces, once a process. Traces need a runtime that is entered.
    ///
    /// # Errors
    /// `Internal` if the process has them already; `INVALID_REQUEST` if the collector's address cannot be used.
    pub fn init(config: &config::Telemetry) -> Result<Self> {
        let terminal = stderr().is_terminal();
        let traces = config.otlp_endpoint.as_deref().map(Traces::start).transpose();
        let traces = traces.map_err(|error| Error::invalid("telemetry.otlp_endpoint", error.to_string()))?;
        let layer = traces.as_ref().map(Traces::layer);
        let (subscriber, writers) = logs::subscriber(config, terminal, stderr, stderr, layer)?;
        logs::install(subscriber)?;
        std::panic::set_hook(Box::new(log_panic));
        let metrics = Metrics::install(vec![
            ("audit", writers.audit_dropped.clone()),
            ("log", writers.log_dropped.clone()),
        ])?;
        traces::describe();
        Ok(Self {
            metrics,
            traces,
            _writers: writers,
        })
    }

    /// Sends the last spans: while the runtime that it was started in still runs.
    pub fn finish(&self) {
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

/// A panic's message may quote what it stumbled over. Only a literal is sure to be harmless.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let message = info.payload().downcast_ref::<&'static str>().copied();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, message = message.unwrap_or("a panic"), "panicked");
}

fn already(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("telemetry was started twice: {error}"))
}
