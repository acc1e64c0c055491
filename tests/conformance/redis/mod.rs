//! Behaviour that only the Redis store has, and faults that only Redis has.

mod calls;
mod cluster;
mod counters;
mod memory;
mod records;
mod stream;
mod throttles;
mod tls;
mod unreachable;
mod unusable;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::config::RedisUrl;
use countersign::secret::SystemEntropy;
use countersign::store::SessionStore as _;
use countersign::store::redis::{ConnectError, Redis, Settings};

use crate::support::{Redis as Server, eventually};

/// The command timeout of tests about timeouts.
pub const TIMEOUT: Duration = Duration::from_millis(300);

pub const POOL: usize = 2;

/// The command timeout of all other tests, long enough for a busy machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(5);

/// Within this time, a server that works again is used again.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// Starts a server without blocking the runtime.
pub async fn server(options: &'static [&'static str]) -> Server {
    tokio::task::spawn_blocking(|| Server::start(options)).await.unwrap()
}

pub async fn connect(url: &str, prefix: &str) -> Result<Redis, ConnectError> {
    connect_with(url, prefix, LONG_TIMEOUT).await
}

pub async fn connect_with(url: &str, prefix: &str, timeout: Duration) -> Result<Redis, ConnectError> {
    let settings = Settings {
        url: RedisUrl::parse(&url.into()).map_err(ConnectError::Settings)?,
        prefix: prefix.to_owned(),
        pool: POOL,
        timeout,
    };
    Redis::connect(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).await
}

pub async fn connected(server: &Server) -> Redis {
    connect(&server.url(), "cs").await.unwrap()
}

/// Waits until Redis is used again.
pub async fn wait_until_used(store: &Redis) {
    eventually("Redis is used again", RECOVERY, || async { store.ping().await.ok() }).await;
}
