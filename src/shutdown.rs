//! The end of the process: first drain, then stop.

use tokio_util::sync::CancellationToken;

/// Tells everything that runs when to finish its work and when to drop it. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Nothing is to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Finish what was begun and begin nothing new.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Drop everything.
    pub fn now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }

    /// Whether to begin nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when nothing new may begin. Cancel-safe.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Resolves when everything must be dropped. Cancel-safe.
    pub async fn stopped(&self) {
        self.now.cancelled().await;
    }
}

/// Turns the operating system's signals into a [`Stop`]: the first SIGTERM or SIGINT drains, the second stops now.
/// Never resolves before the second one.
///
/// # Errors
/// If the signals cannot be listened to.
pub async fn on_signals(stop: Stop) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for act in [Stop::drain, Stop::now] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        act(&stop);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn now_implies_drain_and_reaches_every_clone() {
        let stop = Stop::new();
        let other = stop.clone();
        assert!(!other.is_draining());
        stop.now();
        other.draining().await;
        other.stopped().await;
        assert!(other.is_draining());
    }
}
