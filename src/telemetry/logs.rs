//! Log lines: one bounded queue for audit events and one for all other events, each with a thread that writes.

use std::io::Write;
use std::sync::Arc;

use tracing::{Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::json::AuditJson;
use super::line_limit::{Limited, LineLimit, Sink};
use super::sanitize::Sanitizing;
use super::{AUDIT_TARGET, already_installed, is_ours};
use crate::config::{self, LogFormat};
use crate::model::{Error, Result};
use crate::spans::SPANS;

/// How many lines may wait for a slow reader. A line has some hundred bytes.
const QUEUE_LINES: usize = 8_192;

/// The threads that write. Dropping this writes the queued lines.
#[derive(Debug)]
pub(super) struct Writers {
    pub(super) log_dropped: ErrorCounter,
    pub(super) audit_dropped: ErrorCounter,
    pub(super) limits: [Arc<LineLimit>; 2],
    _log: WorkerGuard,
    _audit: WorkerGuard,
}

/// The subscriber to events and spans. Lines go to the writers that `log` and `audit` make.
pub(super) fn subscriber<W: Write + Send + 'static>(
    config: &config::Telemetry,
    terminal: bool,
    log: impl FnOnce() -> W,
    audit: impl FnOnce() -> W,
    traces: Option<Box<dyn Layer<Registry> + Send + Sync>>,
) -> Result<(impl Subscriber + Send + Sync, Writers)> {
    let filter = filter(&config.log_filter)?;
    let format = config.format(terminal);
    let (log, log_guard) = queue("log-writer", log());
    let (audit, audit_guard) = queue("audit-writer", audit());
    let [log_limit, audit_limit] = [Sink::Log, Sink::Audit].map(|sink| Arc::new(LineLimit::new(sink)));
    let writers = Writers {
        limits: [log_limit.clone(), audit_limit.clone()],
        log_dropped: log.error_counter(),
        audit_dropped: audit.error_counter(),
        _log: log_guard,
        _audit: audit_guard,
    };
    let colours = terminal && format == LogFormat::Text;
    // The hints tell the level below which no layer wants anything. Without one, events of every level are made, and those of the
    // `log` crate are formatted.
    let is_of_log = filter_fn(is_log_event).with_max_level_hint(LevelFilter::TRACE);
    let log = line_layer(format, colours, log).with_filter(filter.and(is_of_log).and(Limited(log_limit)));
    let audit = audit_layer(format, colours, audit, audit_limit);
    // One list of layers, each with its own filter: an event that no layer wants costs almost nothing.
    let layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> =
        [audit.boxed(), log.boxed()].into_iter().chain(traces).collect();
    Ok((Registry::default().with(layers), writers))
}

/// Libraries whose lines repeat ours, without telling what follows for callers, and name files of the machine on which the
/// program was built.
const LIBRARIES: [&str; 3] = ["fred", "sqlx", "opentelemetry"];

/// The filter of the log. Lines of [`LIBRARIES`] are written only if the filter names the library, or asks for the `DEBUG` lines
/// of everything.
fn filter(text: &str) -> Result<EnvFilter> {
    let mut filter = EnvFilter::try_new(text).map_err(Error::internal)?;
    // Of several levels for everything, the last counts.
    let mut parts = text.split(',').rev();
    let level = parts.find_map(|part| part.trim().parse::<LevelFilter>().ok());
    if level.is_some_and(|level| level > LevelFilter::INFO) {
        return Ok(filter);
    }
    for library in LIBRARIES {
        if !text.contains(library) {
            filter = filter.add_directive(format!("{library}=off").parse().map_err(Error::internal)?);
        }
    }
    Ok(filter)
}

/// Installs the subscriber for the whole process, and for events of the `log` crate.
pub(super) fn install(subscriber: impl Subscriber + Send + Sync) -> Result<()> {
    subscriber.try_init().map_err(already_installed)
}

fn queue<W: Write + Send + 'static>(name: &str, writer: W) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name(name)
        .finish(writer)
}

fn audit_layer<S>(format: LogFormat, colours: bool, writer: NonBlocking, limit: Arc<LineLimit>) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = match format {
        LogFormat::Text => line_layer(format, colours, writer),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_writer(Sanitizing(writer))
            .event_format(AuditJson)
            .boxed(),
    };
    let is_of_audit = filter_fn(|event| event.target() == AUDIT_TARGET).with_max_level_hint(LevelFilter::INFO);
    layer.with_filter(is_of_audit.and(Limited(limit)))
}

fn line_layer<S>(format: LogFormat, colours: bool, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Sanitizing(writer))
        .with_ansi(colours);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// Whether this may be written to the log: it is no audit event, no span for traces, and no `TRACE` of another crate,
/// which may contain headers.
fn is_log_event(event: &Metadata<'_>) -> bool {
    let target = event.target();
    target != AUDIT_TARGET && target != SPANS && (is_ours(target) || *event.level() < Level::TRACE)
}
