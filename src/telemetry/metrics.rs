//! Metrics in Prometheus' format. Every label has a fixed set of values; no label contains what a caller sends.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::ErrorCounter;

use super::line_limit::{self, LineLimit};
use super::{already_installed, process};
use crate::model::{Error, Result};

/// Upper bounds of the buckets of every `_seconds` histogram: from a cached answer to the longest deadline.
const SECONDS_BUCKETS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// How often samples are added to their buckets while no scraper reads them. Until then each sample takes memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    recorder: PrometheusHandle,
    dropped: Arc<[(&'static str, ErrorCounter)]>,
    limits: Arc<[Arc<LineLimit>]>,
}

impl Metrics {
    pub(super) fn install(dropped: Vec<(&'static str, ErrorCounter)>, limits: Vec<Arc<LineLimit>>) -> Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .map_err(Error::internal)?
            .install_recorder()
            .map_err(already_installed)?;
        describe_counter!(
            "countersign_log_dropped_total",
            "Lines that were dropped because their reader was too slow."
        );
        line_limit::describe();
        process::describe();
        describe_gauge!("countersign_build_info", "1, with the version of the running program.");
        gauge!("countersign_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self {
            recorder,
            dropped: dropped.into(),
            limits: limits.into(),
        })
    }

    /// All metrics, as `/metrics` serves them (`text/plain; version=0.0.4`).
    #[must_use]
    pub fn render(&self) -> String {
        for (sink, lines) in self.dropped.iter() {
            let lines = u64::try_from(lines.dropped_lines()).unwrap_or(u64::MAX);
            counter!("countersign_log_dropped_total", "sink" => *sink).absolute(lines);
        }
        process::collect();
        self.recorder.render()
    }

    /// Bounds the memory of metrics that no scraper reads, and logs how many lines were left out. Runs until the future is dropped.
    pub async fn maintain(&self) {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tick.tick().await;
            self.recorder.run_upkeep();
            self.limits.iter().for_each(|limit| limit.report(false));
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}
