//! Telling the service manager how it goes (`sd_notify(3)`). Where none asked to be told, nothing is.

use sd_notify::NotifyState;

use crate::shutdown::Stop;

/// Calls are answered from now on.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Shows that the process lives as often as the manager wants to see it (`WatchdogSec`), from the threads that answer
/// calls: if they hang, it restarts us. Says so when a drain begins. Ends with the drain.
pub(super) async fn watch(stop: Stop) {
    let alive = async {
        let Some(limit) = sd_notify::watchdog_enabled() else {
            return std::future::pending().await;
        };
        // Twice in the time, as the manual recommends: one may be late.
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    };
    tokio::select! {
        () = stop.draining() => tell(&[NotifyState::Stopping]),
        () = alive => {}
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
