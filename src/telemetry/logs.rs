//! Log lines: two bounded queues, one for audit events, one for the rest, each with a thread that writes.

use std::io::Write;

use tracing::{Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::harmless::Harmless;
use super::{AUDIT_TARGET, already};
use crate::config::{self, LogFormat};
use crate::model::{Error, Result};
use crate::spans::SPANS;

/// Lines that wait for a slow reader; a line is some hundred bytes.
const QUEUE: usize = 8_192;

/// The threads that write. Dropping them writes what is queued.
#[derive(Debug)]
pub(super) struct Writers {
    pub(super) log_dropped: ErrorCounter,
    pub(super) audit_dropped: ErrorCounter,
    _log: WorkerGuard,
    _audit: WorkerGuard,
}

/// What takes events and spans, with lines going to what `log` and `audit` make.
pub(super) fn subscriber<W: Write + Send + 'static>(
    config: &config::Telemetry,
    terminal: bool,
    log: impl FnOnce() -> W,
    audit: impl FnOnce() -> W,
    traces: Option<Box<dyn Layer<Registry> + Send + Sync>>,
) -> Result<(impl Subscriber + Send + Sync, Writers)> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(Error::internal)?;
    let format = config
        .log_format
        .unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let (log, log_guard) = queue("log-writer", log());
    let (audit, audit_guard) = queue("audit-writer", audit());
    let writers = Writers {
        log_dropped: log.error_counter(),
        audit_dropped: audit.error_counter(),
        _log: log_guard,
        _audit: audit_guard,
    };
    let colours = terminal && format == LogFormat::Text;
    let lines = lines(format, colours, log).with_filter(filter.and(filter_fn(is_ordinary)));
    let trail = lines_of_audit(format, colours, audit);
    // One list, each with its own filter: what none of them wants costs its caller next to nothing.
    let layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> =
        [trail.boxed(), lines.boxed()].into_iter().chain(traces).collect();
    Ok((Registry::default().with(layers), writers))
}

/// Makes it the process's, with what is logged by way of the `log` crate.
pub(super) fn install(subscriber: impl Subscriber + Send + Sync) -> Result<()> {
    subscriber.try_init().map_err(already)
}

fn queue<W: Write + Send + 'static>(name: &str, writer: W) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name(name)
        .finish(writer)
}

fn lines_of_audit<S>(format: LogFormat, colours: bool, writer: NonBlocking) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    lines(format, colours, writer).with_filter(filter_fn(|event| event.target() == AUDIT_TARGET))
}

fn lines<S>(format: LogFormat, colours: bool, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Harmless(writer))
        .with_ansi(colours);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// Whether this may be written to the ordinary log: no audit event, no span for traces, and no stranger's `TRACE`.
fn is_ordinary(event: &Metadata<'_>) -> bool {
    let target = event.target();
    let ours = target == "countersign" || target.starts_with("countersign::");
    target != AUDIT_TARGET && target != SPANS && (ours || *event.level() < Level::TRACE)
}
