//! What only Redis can do, and what only Redis can do to us.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::secret::{SecretText, SystemEntropy};
use countersign::store::redis::{ConnectError, Redis, Settings};

/// The command timeout that the tests run with.
pub const TIMEOUT: Duration = Duration::from_millis(300);

pub async fn connect(url: &str, prefix: &str) -> Result<Redis, ConnectError> {
    let settings = Settings {
        url: SecretText::new(url),
        prefix: prefix.to_owned(),
        pool: 2,
        timeout: TIMEOUT,
    };
    Redis::connect(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).await
}
