//! Notifying the service manager (`sd_notify(3)`). Does nothing where no manager asked for it.

use sd_notify::NotifyState;

use crate::shutdown::Stop;

/// Notifies that calls are answered from now on.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Notifies the watchdog as often as the manager requires (`WatchdogSec`), from the threads that answer calls: if they
/// hang, the manager restarts the service. Notifies the start of a drain, and ends then.
pub(super) async fn watch(stop: Stop) {
    let watchdog = async {
        let Some(limit) = sd_notify::watchdog_enabled() else {
            return std::future::pending().await;
        };
        // Twice per limit, as the manual recommends: one notification may be late.
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            ticks.tick().await;
            notify(&[NotifyState::Watchdog]);
        }
    };
    tokio::select! {
        () = stop.draining() => notify(&[NotifyState::Stopping]),
        () = watchdog => {}
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
