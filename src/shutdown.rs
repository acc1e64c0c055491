//! The shutdown of the process: first drain, then stop.

use tokio_util::sync::CancellationToken;

/// Tells all tasks when to finish their work and when to abandon it. Clones share the same state.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// A new one; nothing has to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts draining: tasks finish their work and start nothing new.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops now: tasks abandon their work. This includes draining.
    pub fn stop_now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }

    /// Whether draining has started.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when draining starts. Cancel-safe.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Resolves when tasks must abandon their work. Cancel-safe.
    pub async fn stopped(&self) {
        self.now.cancelled().await;
    }
}

/// Applies signals to `stop`: the first SIGTERM or SIGINT starts draining, the second stops now. Resolves after the second
/// signal.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub async fn on_signals(stop: Stop) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut received = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let signal = received().await;
    tracing::info!(
        signal,
        "{signal} received: no new connections; calls in progress may end within server.drain_timeout"
    );
    stop.drain();
    let signal = received().await;
    tracing::warn!(
        signal,
        "{signal} received again: stopping now; calls in progress are dropped"
    );
    stop.stop_now();
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
        stop.stop_now();
        other.draining().await;
        other.stopped().await;
        assert!(other.is_draining());
    }
}
