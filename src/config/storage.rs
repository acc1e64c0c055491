//! `[storage]`: the data folder, Postgres and Redis.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mode;
use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::{duration, optional_keyword, redact_url, secret_url};
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
    /// Which stores are meant. Set, it keeps a missing URL from silently selecting the embedded store.
    #[serde(default, deserialize_with = "optional_keyword")]
    pub mode: Option<Mode>,
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
    /// The mode that the URLs select.
    pub(super) fn mode_of_urls(&self) -> Mode {
        match &self.database_url {
            Some(_) => Mode::Clustered,
            None => Mode::Embedded,
        }
    }

    /// Names the stores for the operator, without passwords.
    #[must_use]
    pub fn describe(&self) -> String {
        let url = |url: &Option<SecretText>| url.as_ref().map(|url| redact_url(url.expose())).unwrap_or_default();
        match self.mode_of_urls() {
            Mode::Clustered => format!(
                "the clustered store at {} and {} with the prefix {}",
                url(&self.database_url),
                url(&self.redis_url),
                self.redis_prefix
            ),
            Mode::Embedded => {
                let folder = std::path::absolute(&self.data_dir);
                let folder = folder.as_deref().unwrap_or(&self.data_dir);
                format!("the embedded store in {}", folder.display())
            }
        }
    }

    /// Checks that the URLs fit `storage.mode`.
    fn check_mode(&self) -> CheckResult {
        let problem = match (self.mode, &self.database_url, &self.redis_url) {
            (Some(Mode::Clustered), None, _) => "is clustered, but storage.database_url is not set",
            (Some(Mode::Clustered), _, None) => "is clustered, but storage.redis_url is not set",
            (Some(Mode::Embedded), Some(_), _) => "is embedded, but storage.database_url is set",
            (Some(Mode::Embedded), _, Some(_)) => "is embedded, but storage.redis_url is set",
            (Some(_) | None, _, _) => return Ok(()),
        };
        let cure = "set the URLs (usually in the environment of the service) and the mode alike";
        Err(ConfigError::at("storage.mode", format!("{problem}: {cure}")))
    }

    pub(super) fn check(&self) -> CheckResult {
        let (millisecond, minute) = (Duration::from_millis(1), Duration::from_mins(1));
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::at("storage.data_dir", "must not be empty"));
        }
        check_scheme("storage.database_url", self.database_url.as_ref(), &POSTGRES_SCHEMES)?;
        check_scheme("storage.redis_url", self.redis_url.as_ref(), &REDIS_SCHEMES)?;
        self.check_mode()?;
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
