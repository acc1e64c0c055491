//! Traces, over OTLP. Off unless a collector is configured. Each call is a span; its SQL statements and Redis scripts
//! are child spans.
//!
//! If the collector is slow or down, spans are lost but no call is delayed: spans wait in a bounded queue, and those
//! that do not fit or cannot be sent are dropped. The caller decides which calls are sampled (`traceparent`); for calls
//! without that header, `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` decide, as usual in OpenTelemetry.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, Key, KeyValue, Value};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{ResourceDetector as _, SdkProvidedResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter, Tracer,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};

use crate::spans::SPANS;

/// How many spans may wait to be sent. A span has about a kilobyte.
const QUEUE_SPANS: usize = 4096;

/// How many spans one export sends.
const BATCH_SPANS: usize = 512;

/// How long a span may wait for its batch to fill.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last export may take when the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest `tracestate` that is passed on, in bytes; W3C Trace Context §3.3.1.1 asks for at least that much.
const MAX_TRACESTATE_LEN: usize = 512;

/// The exporter of spans.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts to send spans to this collector by gRPC. Needs an entered Tokio runtime, which drives the connection.
    pub(super) fn start(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT);
        if endpoint.starts_with("https://") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let limits = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let exporter = CountingExporter {
            exporter: exporter.build()?,
            collector: collector(endpoint),
            failing: Mutex::default(),
        };
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(limits).build();
        let resource = Resource::builder()
            .with_service_name(service_name())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    /// The layer that hands Countersign's own spans to OpenTelemetry.
    pub(super) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let tracer: Tracer = self.provider.tracer("countersign");
        let is_own_span = filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(is_own_span.with_max_level_hint(LevelFilter::INFO))
            .boxed()
    }

    /// Sends the waiting spans, for at most [`SHUTDOWN_TIMEOUT`].
    pub(super) fn finish(&self) {
        // An error only means that spans are lost, as at any other time.
        drop(self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
    }
}

/// The name of the service that the environment states (`OTEL_SERVICE_NAME`, else `service.name` in
/// `OTEL_RESOURCE_ATTRIBUTES`); `countersign` if it states none.
fn service_name() -> Value {
    let detected = SdkProvidedResourceDetector
        .detect()
        .get(&Key::from_static_str("service.name"));
    // The specification of OpenTelemetry prescribes this prefix for a name that is not stated.
    let stated = detected.filter(|name| !name.as_str().starts_with("unknown_service"));
    stated.unwrap_or_else(|| Value::from("countersign"))
}

/// Describes the metric of this module. Call it after the recorder is installed.
pub(super) fn describe() {
    metrics::describe_counter!(
        "countersign_spans_total",
        "Spans exported to the collector of traces, by whether it accepted them."
    );
    for outcome in ["sent", "lost"] {
        metrics::counter!("countersign_spans_total", "outcome" => outcome).increment(0);
    }
}

/// Makes the span part of the caller's trace, if the headers name one (`traceparent`, W3C Trace Context).
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if parent.span().span_context().is_valid() {
        // An error only means that tracing is off.
        drop(span.set_parent(parent));
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut all = self.0.get_all(key).iter();
        let value = all.next()?.to_str().ok()?;
        // If the header is given twice, it is unknown which value is right.
        (all.next().is_none() && value.len() <= MAX_TRACESTATE_LEN).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Counts the spans that were sent and lost, and logs when the collector is lost and when it is back.
#[derive(Debug)]
struct CountingExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    /// The host and port of the collector.
    collector: String,
    /// Since when exports fail, and how many spans were lost.
    failing: Mutex<Option<(Instant, u64)>>,
}

impl CountingExporter {
    fn log_edge(&self, sent: &OTelSdkResult, spans: u64) {
        let collector = &self.collector;
        let mut failing = self.failing.lock();
        match (sent, failing.as_mut()) {
            (Err(error), None) => {
                *failing = Some((Instant::now(), spans));
                tracing::warn!(
                    collector, %error,
                    "traces cannot be sent to {collector} (telemetry.otlp_endpoint); spans are lost until it accepts them"
                );
            }
            (Err(_), Some((_, lost))) => *lost += spans,
            (Ok(()), Some((since, lost))) => {
                let (outage_seconds, lost) = (since.elapsed().as_secs_f64(), *lost);
                *failing = None;
                tracing::info!(collector, outage_seconds, lost, "traces are sent to {collector} again");
            }
            (Ok(()), None) => {}
        }
    }
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let sent = self.exporter.export(batch).await;
        let outcome = if sent.is_ok() { "sent" } else { "lost" };
        metrics::counter!("countersign_spans_total", "outcome" => outcome).increment(count);
        self.log_edge(&sent, count);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The host and port of the endpoint, for the log: a URL may hold a password.
fn collector(endpoint: &str) -> String {
    let uri: Option<http::Uri> = endpoint.parse().ok();
    let authority = uri.as_ref().and_then(http::Uri::authority);
    authority.map_or_else(String::new, |authority| {
        let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", authority.host())
    })
}
