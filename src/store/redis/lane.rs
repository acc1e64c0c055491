//! One connection that carries calls, and what is known of it.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::config::Options;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::Breaker;
use super::settings::IN_FLIGHT;

/// A connection (in a cluster: one to each master). Its breaker is its own: fred notices a silent connection only once
/// nobody writes to it any more.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) client: Client,
    pub(super) breaker: Breaker,
    gate: Arc<Semaphore>,
}

impl Lane {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            breaker: Breaker::new(),
            gate: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }

    /// Room for one call, or why there is none.
    pub(super) fn enter(&self, now: Duration) -> Result<OwnedSemaphorePermit, &'static str> {
        if !self.client.is_connected() {
            return Err("not connected");
        }
        let permit = Arc::clone(&self.gate)
            .try_acquire_owned()
            .map_err(|_| "too many calls are under way")?;
        if !self.breaker.admits(now) {
            return Err("the circuit breaker is open");
        }
        Ok(permit)
    }

    /// For a call that must end in time: one attempt, and none at all while it is not connected.
    pub(super) fn options(timeout: Duration) -> Options {
        Options {
            max_attempts: Some(1),
            timeout: Some(timeout),
            fail_fast: true,
            ..Options::default()
        }
    }
}
