//! Metrics in Prometheus' format. Every label has a fixed set of values: nothing that a caller sends is one.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::ErrorCounter;

use super::already;
use crate::model::{Error, Result};

/// Upper bounds of every histogram of seconds: from a cached answer to the longest deadline.
const SECONDS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// How often samples are sorted into their buckets when nobody scrapes; until then they are kept one by one.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    recorder: PrometheusHandle,
    dropped: Arc<[(&'static str, ErrorCounter)]>,
}

impl Metrics {
    pub(super) fn install(dropped: Vec<(&'static str, ErrorCounter)>) -> Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .map_err(Error::internal)?
            .install_recorder()
            .map_err(already)?;
        describe_counter!(
            "countersign_log_dropped_total",
            "Lines that were dropped because nobody read them."
        );
        describe_gauge!("countersign_build_info", "1, with the version that runs.");
        gauge!("countersign_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self {
            recorder,
            dropped: dropped.into(),
        })
    }

    /// All metrics, as `/metrics` answers them (`text/plain; version=0.0.4`).
    #[must_use]
    pub fn render(&self) -> String {
        for (sink, lines) in self.dropped.iter() {
            let lines = u64::try_from(lines.dropped_lines()).unwrap_or(u64::MAX);
            counter!("countersign_log_dropped_total", "sink" => *sink).absolute(lines);
        }
        self.recorder.render()
    }

    /// Keeps the memory of unscraped metrics bounded. Runs until it is dropped.
    pub async fn maintain(&self) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.recorder.run_upkeep();
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}
