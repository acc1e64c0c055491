//! What only Redis can do, and what only Redis can do to us.

mod calls;
mod cluster;
mod counters;
mod fit;
mod gone;
mod memory;
mod stream;
mod throttles;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::secret::{SecretText, SystemEntropy};
use countersign::store::SessionStore as _;
use countersign::store::redis::{ConnectError, Redis, Settings};

use crate::support::{Redis as Server, eventually};

/// The command timeout of tests about giving up.
pub const TIMEOUT: Duration = Duration::from_millis(300);

pub const POOL: usize = 2;

/// The command timeout of all others: a busy machine is no fault.
const PATIENT: Duration = Duration::from_secs(5);

/// After this, what was broken and is whole again is used again.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// A server, started where nobody waits for it.
pub async fn server(options: &'static [&'static str]) -> Server {
    tokio::task::spawn_blocking(|| Server::start(options)).await.unwrap()
}

pub async fn connect(url: &str, prefix: &str) -> Result<Redis, ConnectError> {
    connect_with(url, prefix, PATIENT).await
}

pub async fn connect_with(url: &str, prefix: &str, timeout: Duration) -> Result<Redis, ConnectError> {
    let settings = Settings {
        url: SecretText::new(url),
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
pub async fn back(store: &Redis) {
    eventually("Redis is used again", RECOVERY, || async { store.ping().await.ok() }).await;
}
