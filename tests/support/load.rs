//! Calls at a steady rate while something breaks, and their results.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Status;

use super::caller::reason;

/// The most calls that may wait at a time. A machine that is too slow for the rate makes fewer calls instead of
/// queuing them.
const MAX_IN_FLIGHT: usize = 256;

/// How often each result occurred, and how long the calls took.
#[derive(Debug)]
pub struct Report {
    /// Counts by code and reason; `Ok` for success.
    pub answers: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

impl Report {
    /// The number of calls with this result.
    pub fn count(&self, answer: &str) -> u64 {
        self.answers.get(answer).copied().unwrap_or_default()
    }

    /// The time that this fraction (0–1) of the calls did not exceed.
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(part))
    }

    /// Asserts that no call had any other result.
    #[track_caller]
    pub fn assert_only(&self, answers: &[&str]) {
        let other: Vec<_> = self
            .answers
            .keys()
            .filter(|answer| !answers.contains(&answer.as_str()))
            .collect();
        assert!(other.is_empty(), "{self}");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (median, tail, worst) = (self.quantile(0.5), self.quantile(0.99), self.quantile(1.0));
        write!(f, "{:?}, p50 {median:?}, p99 {tail:?}, worst {worst:?}", self.answers)
    }
}

/// Calls in the background, until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    running: Arc<AtomicBool>,
    task: JoinHandle<Report>,
}

impl Load {
    /// Makes calls at this rate per second, whether or not earlier ones were answered, until too many wait. `call`
    /// gets the number of the call. Latency counts from the time at which a call was due, so a stall is not hidden.
    pub fn start<F, T>(a_second: u32, call: impl Fn(usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<T, Status>> + Send + 'static,
        T: Send + 'static,
    {
        let running = Arc::new(AtomicBool::new(true));
        let going = Arc::clone(&running);
        let task = tokio::spawn(async move {
            let mut pace = interval(Duration::from_secs(1) / a_second);
            pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut calls = JoinSet::new();
            let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
            let mut n = 0;
            while going.load(Ordering::SeqCst) {
                let due: Instant = pace.tick().await;
                let permit = Arc::clone(&in_flight)
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed");
                let answer = call(n);
                calls.spawn(async move {
                    let _permit = permit;
                    let answer = answer.await;
                    (due.elapsed(), answer.map(|_| ()))
                });
                n += 1;
            }
            let mut report = Report {
                answers: BTreeMap::new(),
                latency: Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are right"),
            };
            for (took, answer) in calls.join_all().await {
                let answer = match answer {
                    Ok(()) => "Ok".to_owned(),
                    Err(status) => {
                        let (code, why) = reason(&status);
                        format!("{code:?} {why}").trim_end().to_owned()
                    }
                };
                *report.answers.entry(answer).or_default() += 1;
                report
                    .latency
                    .saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            report
        });
        Self { running, task }
    }

    /// Stops, and returns the results of all calls.
    pub async fn stop(self) -> Report {
        self.running.store(false, Ordering::SeqCst);
        self.task.await.expect("the load does not panic")
    }
}
