//! Request rate, errors and duration of every method.
//!
//! `countersign_grpc_calls_total{service, method, code}` and `countersign_grpc_call_seconds{service, method}`. The
//! handles are made once: a call costs one look-up and two atomic additions, and no label value comes from a request.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tonic::Code;

use crate::grpc::policy::{METHODS, Method};

/// Number of gRPC status codes, 0 to 16.
const CODES: usize = 17;

/// The metrics of all methods. The recorder must be installed before they are made, or they record nothing.
pub(super) struct Metrics {
    /// By path.
    methods: HashMap<&'static str, MethodMetrics>,
    unknown: Counter,
}

struct MethodMetrics {
    method: &'static Method,
    calls: [OnceLock<Counter>; CODES],
    seconds: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        metrics::describe_counter!("countersign_grpc_calls_total", "Calls by their outcome.");
        metrics::describe_histogram!(
            "countersign_grpc_call_seconds",
            metrics::Unit::Seconds,
            "How long unary calls took."
        );
        let methods = METHODS.iter().map(|method| (method.path, MethodMetrics::new(method)));
        Self {
            methods: methods.collect(),
            unknown: counter!("countersign_grpc_calls_total",
                "service" => "unknown", "method" => "unknown", "code" => "Unimplemented"),
        }
    }

    /// Counts a call of a method that is not served.
    pub(super) fn unknown(&self) {
        self.unknown.increment(1);
    }

    /// Counts a unary call that ended with `code`, and records how long it took.
    pub(super) fn unary_ended(&self, method: &'static Method, code: Code, duration: Duration) {
        if let Some(metrics) = self.methods.get(method.path) {
            metrics.calls(code).increment(1);
            metrics.seconds.record(duration);
        }
    }

    /// Counts a stream that ended with `code`.
    pub(super) fn stream_ended(&self, method: &'static Method, code: Code) {
        if let Some(metrics) = self.methods.get(method.path) {
            metrics.calls(code).increment(1);
        }
    }
}

impl MethodMetrics {
    fn new(method: &'static Method) -> Self {
        let new = Self {
            method,
            calls: std::array::from_fn(|_| OnceLock::new()),
            seconds: histogram!("countersign_grpc_call_seconds",
                "service" => method.service, "method" => method.name),
        };
        // The series with code `Ok` exists from the start: `increase()` cannot see the first call of a new series.
        new.calls(Code::Ok);
        new
    }

    fn calls(&self, code: Code) -> &Counter {
        let slot = usize::try_from(i32::from(code)).unwrap_or(0) % CODES;
        self.calls[slot].get_or_init(|| {
            counter!("countersign_grpc_calls_total",
                "service" => self.method.service, "method" => self.method.name, "code" => format!("{code:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_under_its_code() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let metrics = Metrics::new();
            let method = METHODS.iter().find(|method| method.name == "Issue").unwrap();
            metrics.unary_ended(method, Code::Ok, Duration::from_millis(3));
            metrics.unary_ended(method, Code::Unauthenticated, Duration::from_millis(3));
            metrics.unary_ended(method, Code::Unauthenticated, Duration::from_millis(3));
            metrics.unknown();
        });
        let text = handle.render();
        let issue = "service=\"countersign.v1.TokenService\",method=\"Issue\"";
        for line in [
            format!("countersign_grpc_calls_total{{{issue},code=\"Ok\"}} 1"),
            format!("countersign_grpc_calls_total{{{issue},code=\"Unauthenticated\"}} 2"),
            "countersign_grpc_calls_total{service=\"unknown\",method=\"unknown\",code=\"Unimplemented\"} 1".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
    }
}
