//! One connection that carries calls, with its circuit breaker and its limit of calls in flight.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::config::Options;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::CircuitBreaker;
use super::settings::MAX_IN_FLIGHT;

/// One connection of the pool; in a cluster, one connection to each master.
///
/// Each connection has its own breaker, because fred notices that a connection is silent only after writes to it stop.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) breaker: CircuitBreaker,
    in_flight: Arc<Semaphore>,
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            breaker: CircuitBreaker::new(),
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }
    }

    /// Admits one call, or says why this connection cannot take it.
    pub(super) fn admit(&self, now: Duration) -> Result<OwnedSemaphorePermit, &'static str> {
        if !self.client.is_connected() {
            return Err("not connected");
        }
        let permit = Arc::clone(&self.in_flight)
            .try_acquire_owned()
            .map_err(|_| "too many calls are in flight")?;
        if !self.breaker.allows_call(now) {
            return Err("the circuit breaker is open");
        }
        Ok(permit)
    }

    /// Options of a call that must end in time: one attempt, and none while the connection is down.
    pub(super) fn call_options(timeout: Duration) -> Options {
        Options {
            max_attempts: Some(1),
            timeout: Some(timeout),
            fail_fast: true,
            ..Options::default()
        }
    }
}
