//! Rate, errors and duration of every method.
//!
//! `countersign_grpc_calls_total{service, method, code}` and `countersign_grpc_call_seconds{service, method}`. The
//! handles are made once: a call costs two atomic additions, and a label can never come from outside.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tonic::Code;

use crate::grpc::policy::{METHODS, Method};

/// Every code of gRPC, 0 to 16.
const CODES: usize = 17;

/// The metrics of all methods. Made after the recorder is installed, or they record nothing.
pub(super) struct Metrics {
    methods: Vec<OfMethod>,
    unknown: Counter,
}

struct OfMethod {
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
        let methods = METHODS.iter().map(OfMethod::new).collect();
        Self {
            methods,
            unknown: counter!("countersign_grpc_calls_total",
                "service" => "unknown", "method" => "unknown", "code" => "Unimplemented"),
        }
    }

    /// A call to something that is not served.
    pub(super) fn unknown(&self) {
        self.unknown.increment(1);
    }

    /// The unary method at this place in [`METHODS`] answered.
    pub(super) fn answered(&self, index: usize, code: Code, took: Duration) {
        self.ended(index, code);
        self.methods[index].seconds.record(took);
    }

    /// A stream of the method at this place in [`METHODS`] ended.
    pub(super) fn ended(&self, index: usize, code: Code) {
        self.methods[index].calls(code).increment(1);
    }
}

impl OfMethod {
    fn new(method: &'static Method) -> Self {
        let new = Self {
            method,
            calls: std::array::from_fn(|_| OnceLock::new()),
            seconds: histogram!("countersign_grpc_call_seconds",
                "service" => method.service, "method" => method.name),
        };
        // The series exists from the start, so that the first error is an increase and not a birth.
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
    fn each_outcome_is_counted_under_its_own_name() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let metrics = Metrics::new();
            let index = METHODS.iter().position(|method| method.name == "Issue").unwrap();
            metrics.answered(index, Code::Ok, Duration::from_millis(3));
            metrics.answered(index, Code::Unauthenticated, Duration::from_millis(3));
            metrics.answered(index, Code::Unauthenticated, Duration::from_millis(3));
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
