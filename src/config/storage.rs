//! `[storage]`: the data folder, Postgres and Redis.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::{duration, secret_url};
use crate::secret::SecretText;

const POSTGRES: [&str; 2] = ["postgres", "postgresql"];
const REDIS: [&str; 6] = [
    "redis",
    "rediss",
    "redis-sentinel",
    "rediss-sentinel",
    "redis-cluster",
    "rediss-cluster",
];

/// `[storage]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Storage {
    /// Of the embedded store.
    pub data_dir: PathBuf,
    /// Postgres; may hold a password.
    #[serde(default, with = "secret_url")]
    pub database_url: Option<SecretText>,
    /// Redis; may hold a password.
    #[serde(default, with = "secret_url")]
    pub redis_url: Option<SecretText>,
    /// Before every Redis key.
    pub redis_prefix: String,
    /// Postgres connections.
    pub database_pool: u32,
    /// Redis connections.
    pub redis_pool: usize,
    /// For a Postgres connection.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// Of one SQL statement.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// Of one Redis command.
    #[serde(with = "duration")]
    pub redis_timeout: Duration,
}

impl Storage {
    pub(super) fn check(&self) -> Checked {
        let (millisecond, minute) = (Duration::from_millis(1), Duration::from_mins(1));
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::at("storage.data_dir", "must not be empty"));
        }
        scheme("storage.database_url", self.database_url.as_ref(), &POSTGRES)?;
        scheme("storage.redis_url", self.redis_url.as_ref(), &REDIS)?;
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
        // Braces would move the hash tag, spaces and globs would surprise whoever scans.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if !(1..=64).contains(&self.redis_prefix.len()) || !self.redis_prefix.bytes().all(plain) {
            let problem = "must be 1 to 64 letters, digits, or any of _ - . :";
            return Err(ConfigError::at("storage.redis_prefix", problem));
        }
        check::number("storage.database_pool", self.database_pool, 2..=1_000)?;
        check::number("storage.redis_pool", self.redis_pool, 1..=100)?;
        check::span(
            "storage.acquire_timeout",
            self.acquire_timeout,
            10 * millisecond..=minute,
        )?;
        check::span(
            "storage.statement_timeout",
            self.statement_timeout,
            10 * millisecond..=minute,
        )?;
        check::span(
            "storage.redis_timeout",
            self.redis_timeout,
            50 * millisecond..=5_000 * millisecond,
        )
    }
}

fn scheme(key: &str, url: Option<&SecretText>, schemes: &[&str]) -> Checked {
    let Some(url) = url else { return Ok(()) };
    let good = url::Url::parse(url.expose()).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
    if good {
        return Ok(());
    }
    // The URL itself stays out of the message: it may hold a password.
    Err(ConfigError::at(
        key,
        format!("must be a URL with a host, of {}://", schemes.join("://, ")),
    ))
}
