//! Traces, over OTLP. Off unless a collector is configured; then each call is a span, and each statement and script of
//! it one below.
//!
//! A collector that is slow or gone costs spans, never a call: they wait in a bounded queue, and what does not fit or
//! cannot be sent is dropped. Which calls are sampled is the caller's to say (`traceparent`); for those that do not say,
//! `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` do, as everywhere in OpenTelemetry.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter, Tracer,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

use crate::spans::SPANS;

/// Spans that wait to be sent; a span is about a kilobyte.
const QUEUE: usize = 4096;

/// Spans sent at once.
const BATCH: usize = 512;

/// How long spans wait for company.
const DELAY: Duration = Duration::from_secs(1);

/// How long one sending may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last spans may take when the process ends.
const LAST: Duration = Duration::from_millis(500);

/// The longest `tracestate` that is passed on (W3C Trace Context §3.3.1.1 asks for that much).
const MAX_STATE: usize = 512;

/// What sends spans.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends to this collector, by gRPC. Must be called where a runtime is entered: it carries the connection.
    pub(super) fn start(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT);
        if endpoint.starts_with("https://") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let limits = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(Counted(exporter.build()?))
            .with_batch_config(limits)
            .build();
        let resource = Resource::builder()
            .with_service_name("countersign")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    /// What turns spans of ours into theirs.
    pub(super) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let tracer: Tracer = self.provider.tracer("countersign");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS))
            .boxed()
    }

    /// Sends what waits, for a moment.
    pub(super) fn finish(&self) {
        // What cannot be sent then is lost, as it would be at any other time.
        drop(self.provider.shutdown_with_timeout(LAST));
    }
}

/// Says what the metric of this room means, once there is a recorder.
pub(super) fn describe() {
    metrics::describe_counter!(
        "countersign_spans_total",
        "Spans given to the collector of traces, by whether it took them."
    );
    for outcome in ["sent", "lost"] {
        metrics::counter!("countersign_spans_total", "outcome" => outcome).increment(0);
    }
}

/// Makes the span part of the trace that these headers tell of (`traceparent`, W3C Trace Context), if they do.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if parent.span().span_context().is_valid() {
        // An error only says that nobody traces.
        drop(span.set_parent(parent));
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut all = self.0.get_all(key).iter();
        let value = all.next()?.to_str().ok()?;
        // Given twice, it is not known whose it is.
        (all.next().is_none() && value.len() <= MAX_STATE).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Counts what becomes of spans.
#[derive(Debug)]
struct Counted(opentelemetry_otlp::SpanExporter);

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let sent = self.0.export(batch).await;
        let outcome = if sent.is_ok() { "sent" } else { "lost" };
        metrics::counter!("countersign_spans_total", "outcome" => outcome).increment(count);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
