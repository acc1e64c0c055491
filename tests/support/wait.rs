//! Waiting with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `probe` until it returns something, and returns that.
///
/// # Panics
///
/// If it has not by the deadline; the message says `what` was awaited.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        sleep(INTERVAL).await;
    }
}

/// Like [`eventually`], but blocking: asynchronous and blocking tests both start servers. `None` when the time is up.
pub fn poll<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    #[expect(clippy::disallowed_methods, reason = "the tests' own stopwatch")]
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() >= within {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}
