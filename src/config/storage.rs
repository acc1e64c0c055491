//! `[storage]`: the data folder, Postgres and Redis.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mode;
use super::check::{self, CheckResult};
use super::database_url::DatabaseUrl;
use super::error::ConfigError;
use super::redis_url::RedisUrl;
use super::text::format_duration;
use super::values::{duration, optional, optional_keyword, redact_url, secret, secret_url};
use crate::secret::SecretText;

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
    /// The user of Postgres, if it is not in the URL.
    #[serde(default, deserialize_with = "optional")]
    pub database_user: Option<String>,
    /// The password of that user, if it is not in the URL.
    #[serde(default, with = "secret")]
    pub database_password: Option<SecretText>,
    /// The URL of Redis; it may contain a password.
    #[serde(default, with = "secret_url")]
    pub redis_url: Option<SecretText>,
    /// The user of Redis, if it is not in the URL.
    #[serde(default, deserialize_with = "optional")]
    pub redis_user: Option<String>,
    /// The password of Redis, if it is not in the URL.
    #[serde(default, with = "secret")]
    pub redis_password: Option<SecretText>,
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
    /// How far behind data of Redis count as a restored backup.
    #[serde(with = "duration")]
    pub redis_backup_age: Duration,
}

impl Storage {
    /// The mode that the URLs select.
    pub(super) fn mode_of_urls(&self) -> Mode {
        match &self.database_url {
            Some(_) => Mode::Clustered,
            None => Mode::Embedded,
        }
    }

    /// How to reach Postgres: the URL, with the user and the password that are set apart from it. None if embedded.
    ///
    /// # Errors
    /// Names the option, and no part of it that may be secret.
    pub fn database(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        let Some(url) = &self.database_url else {
            apart(
                "storage.database_url",
                "storage.database_user",
                self.database_user.is_some(),
            )?;
            apart(
                "storage.database_url",
                "storage.database_password",
                self.database_password.is_some(),
            )?;
            return Ok(None);
        };
        let mut url = DatabaseUrl::parse(url).map_err(|problem| ConfigError::at("storage.database_url", problem))?;
        set_once(
            &mut url.user,
            self.database_user.as_ref(),
            "storage.database_user",
            "storage.database_url",
        )?;
        let password = self.database_password.as_ref();
        set_once(
            &mut url.password,
            password,
            "storage.database_password",
            "storage.database_url",
        )?;
        Ok(Some(url))
    }

    /// How to reach Redis: the URL, with the user and the password that are set apart from it. None if embedded.
    ///
    /// # Errors
    /// Names the option, and no part of it that may be secret.
    pub fn redis(&self) -> Result<Option<RedisUrl>, ConfigError> {
        let Some(url) = &self.redis_url else {
            apart("storage.redis_url", "storage.redis_user", self.redis_user.is_some())?;
            apart(
                "storage.redis_url",
                "storage.redis_password",
                self.redis_password.is_some(),
            )?;
            return Ok(None);
        };
        let mut url = RedisUrl::parse(url).map_err(|problem| ConfigError::at("storage.redis_url", problem))?;
        set_once(
            &mut url.login.user,
            self.redis_user.as_ref(),
            "storage.redis_user",
            "storage.redis_url",
        )?;
        let password = self.redis_password.as_ref();
        set_once(
            &mut url.login.password,
            password,
            "storage.redis_password",
            "storage.redis_url",
        )?;
        if url.login.user.is_some() && self.redis_user.is_some() && url.login.password.is_none() {
            return Err(ConfigError::at(
                "storage.redis_user",
                "needs storage.redis_password too",
            ));
        }
        Ok(Some(url))
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
        self.database()?;
        self.redis()?;
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
        )?;
        if self.redis_backup_age < 5 * minute {
            let problem = format!(
                "is {}, and a failover could then look like a restored backup, which ends every session: write 5m or more \
                 (the default is 15m)",
                format_duration(self.redis_backup_age)
            );
            return Err(ConfigError::at("storage.redis_backup_age", problem));
        }
        check::duration(
            "storage.redis_backup_age",
            self.redis_backup_age,
            5 * minute..=1_440 * minute,
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

/// Sets a part of a URL that an option gives apart from it.
fn set_once<T: Clone>(part: &mut Option<T>, apart: Option<&T>, key: &str, url: &str) -> CheckResult {
    if part.is_some() && apart.is_some() {
        return Err(twice(key, url));
    }
    if let Some(value) = apart {
        *part = Some(value.clone());
    }
    Ok(())
}

fn twice(key: &str, url: &str) -> ConfigError {
    ConfigError::at(key, format!("is in {url} too: leave one of them out"))
}

/// Refuses the option `key`, if it is set, because it needs `url`.
fn apart(url: &str, key: &str, is_set: bool) -> CheckResult {
    if is_set {
        return Err(ConfigError::at(key, format!("needs {url} too")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, Layers, RedisLogin};

    const URLS: [(&str, &str); 2] = [("database_url", "postgres://db/cs"), ("redis_url", "redis://r")];

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let master = (
            "COUNTERSIGN_KEYS__MASTER_KEY".into(),
            "3q2+7wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxw=".into(),
        );
        let name = |key: &str| format!("COUNTERSIGN_STORAGE__{}", key.to_uppercase());
        let mut environment = vec![master];
        environment.extend(pairs.iter().map(|(key, value)| (name(key).into(), value.into())));
        Config::load(&Layers {
            environment,
            ..Layers::default()
        })
    }

    #[test]
    fn user_and_password_can_be_set_apart_from_the_url_as_they_are() {
        let apart = [
            ("database_user", "ada"),
            ("database_password", "p/w@#%"),
            ("redis_user", "grace"),
            ("redis_password", "q/w@#%"),
        ];
        let config = load(&[&URLS[..], &apart[..]].concat()).unwrap();
        let database = config.storage.database().unwrap().unwrap();
        assert_eq!(
            (database.user.as_deref(), database.password),
            (Some("ada"), Some("p/w@#%".into()))
        );
        let login = RedisLogin {
            user: Some("grace".to_owned()),
            password: Some("q/w@#%".into()),
            ..RedisLogin::default()
        };
        assert_eq!(config.storage.redis().unwrap().unwrap().login, login);
        let shown = format!("{} {config:?} {}", config.show(), config.storage.describe());
        assert!(!shown.contains("/w@"), "{shown}");
    }

    #[test]
    fn what_is_set_twice_or_without_its_url_is_refused() {
        let of = |pairs: &[(&str, &str)]| load(pairs).unwrap_err().to_string();
        let urls = [
            ("database_url", "postgres://u:canary@db/cs"),
            ("redis_url", "redis://u:canary@r"),
        ];
        for (key, cure) in [
            ("database_user", "is in storage.database_url too"),
            ("database_password", "is in storage.database_url too"),
            ("redis_user", "is in storage.redis_url too"),
            ("redis_password", "is in storage.redis_url too"),
        ] {
            let error = of(&[&urls[..], &[(key, "x")]].concat());
            assert!(
                error.contains(&format!("storage.{key}")) && error.contains(cure),
                "{error}"
            );
            assert!(!error.contains("canary"), "{error}");
            assert!(of(&[(key, "x")]).contains("needs storage."), "{key}");
        }
        assert!(of(&[&URLS[..], &[("redis_user", "x")]].concat()).contains("needs storage.redis_password"));
        let unknown = of(&[URLS[1], ("database_url", "postgres://db/cs?sslpassword=canary")]);
        assert!(
            unknown.contains("storage.database_url: has the parameter sslpassword"),
            "{unknown}"
        );
        assert!(!unknown.contains("canary"), "{unknown}");
    }
}
