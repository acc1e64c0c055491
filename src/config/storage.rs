//! `[storage]`: the data folder, Postgres and Redis.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::{duration, secret_url};
use crate::secret::SecretText;

const POSTGRES_SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// The URL schemes of `storage.redis_url`.
pub const REDIS_SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis-sentinel",
    "rediss-sentinel",
    "redis-cluster",
    "rediss-cluster",
];

/// The section `[storage]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Storage {
    /// The folder of the embedded store.
    pub data_dir: PathBuf,
    /// The URL of Postgres; it may contain a password.
    #[serde(default, with = "secret_url")]
    pub database_url: Option<SecretText>,
    /// The URL of Redis; it may contain a password.
    #[serde(default, with = "secret_url")]
    pub redis_url: Option<SecretText>,
    /// The prefix of every Redis key.
    pub redis_prefix: String,
    /// The number of Postgres connections.
    pub database_pool: u32,
    /// The number of Redis connections.
    pub redis_pool: usize,
    /// How long a call waits for a Postgres connection.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// How long one SQL statement may take.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// How long one Redis command may take.
    #[serde(with = "duration")]
    pub redis_timeout: Duration,
}

impl Storage {
    pub(super) fn check(&self) -> CheckResult {
        let (millisecond, minute) = (Duration::from_millis(1), Duration::from_mins(1));
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::at("storage.data_dir", "must not be empty"));
        }
        check_scheme("storage.database_url", self.database_url.as_ref(), &POSTGRES_SCHEMES)?;
        check_scheme("storage.redis_url", self.redis_url.as_ref(), &REDIS_SCHEMES)?;
        match (&self.database_url, &self.redis_url) {
            (Some(_), None) => {
                let problem = "is set without storage.redis_url: set both (clustered) or neither (embedded)";
                return Err(ConfigError::at("storage.database_url", problem));
            }
            (None, Some(_)) => {
                let problem = "is set without storage.database_url: set both (clustered) or neither (embedded)";
                return Err(ConfigError::at("storage.redis_url", problem));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        check_redis_prefix(&self.redis_prefix)?;
        check::number("storage.database_pool", self.database_pool, 2..=1_000)?;
        check::number("storage.redis_pool", self.redis_pool, 1..=100)?;
        check::duration(
            "storage.acquire_timeout",
            self.acquire_timeout,
            10 * millisecond..=minute,
        )?;
        check::duration(
            "storage.statement_timeout",
            self.statement_timeout,
            10 * millisecond..=minute,
        )?;
        check::duration(
            "storage.redis_timeout",
            self.redis_timeout,
            50 * millisecond..=5_000 * millisecond,
        )
    }
}

/// Checks `storage.redis_prefix`. Braces are refused because they would change the hash tag of a key; spaces and glob
/// characters are refused because they make it hard to search for keys.
///
/// # Errors
/// Names the option.
pub fn check_redis_prefix(prefix: &str) -> Result<(), ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if (1..=64).contains(&prefix.len()) && prefix.bytes().all(allowed) {
        return Ok(());
    }
    let problem = "must be 1 to 64 letters, digits, or any of _ - . :";
    Err(ConfigError::at("storage.redis_prefix", problem))
}

fn check_scheme(key: &str, url: Option<&SecretText>, schemes: &[&str]) -> CheckResult {
    let Some(url) = url else { return Ok(()) };
    let valid = url::Url::parse(url.expose()).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
    if valid {
        return Ok(());
    }
    // The message does not contain the URL, because it may contain a password.
    Err(ConfigError::at(
        key,
        format!(
            "must be a URL with a host that starts with {}://",
            schemes.join("://, ")
        ),
    ))
}
