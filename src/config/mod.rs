//! The configuration: compiled-in defaults < file < environment < flags.
//!
//! [`DEFAULTS`] (`config.default.toml`) documents every option and is the lowest layer. All layers pass the same checks; an
//! error names the option and where it was set. Below `app`, a function takes the section that it needs and never the whole
//! configuration.

mod agent;
mod check;
mod database_url;
mod environment;
mod error;
mod gateway;
mod keys;
mod layers;
mod listen;
mod password;
mod redis_url;
mod revocation;
mod server;
mod show;
mod storage;
mod store_url;
mod telemetry;
mod text;
mod throttle;
mod tokens;
mod users;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use agent::Agent;
pub use database_url::{DatabaseHost, DatabaseUrl};
pub use environment::{PREFIX as ENVIRONMENT_PREFIX, unquoted};
pub use error::ConfigError;
pub use gateway::{Gateway, SameSite};
pub use keys::{Keys, parse_master_keys};
pub use layers::{DEFAULTS, Flag, Layers, Source};
pub use listen::Listen;
pub use password::{MAX_ITERATIONS, MAX_MEMORY_KIB, MAX_PARALLELISM, MAX_WORK_KIB, Password};
pub use redis_url::{REDIS_SCHEMES, RedisLogin, RedisServers, RedisTls, RedisUrl};
pub use revocation::{OnStale, Revocation};
pub use server::{Server, Tls};
pub use storage::{Storage, check_redis_prefix};
pub use telemetry::{LogFormat, Telemetry};
pub use text::{Rate, format_duration, parse_duration};
pub use throttle::Throttle;
pub use tokens::Tokens;
pub use users::{Registration, Users};
pub use values::redact_url;

use crate::model::CallerScope;

/// Which stores the service uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One SQLite file, used by one server process.
    Embedded,
    /// Postgres and Redis, used by any number of replicas.
    Clustered,
}

/// The whole configuration, checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each section documents itself")]
pub struct Config {
    pub server: Server,
    pub storage: Storage,
    pub tokens: Tokens,
    pub keys: Keys,
    pub password: Password,
    pub users: Users,
    pub throttle: Throttle,
    pub revocation: Revocation,
    pub gateway: Gateway,
    #[serde(default)]
    pub agent: Agent,
    pub telemetry: Telemetry,
    #[serde(skip)]
    sources: BTreeMap<String, Source>,
}

impl Config {
    /// Reads all layers and checks the result.
    pub fn load(layers: &Layers<'_>) -> Result<Self, ConfigError> {
        let known = show::keys(&Self::read(layers::defaults()?)?);
        let values = layers::merge(layers, &known)?;
        let mut config = Self::read(values)?;
        let embedded = config.mode() == Mode::Embedded;
        let derived = [config.server.derive(embedded), config.password.derive()].concat();
        let derived = derived.into_iter().map(|key| (key.to_owned(), Source::Derived));
        config.sources.extend(derived);
        config.check().map_err(|error| config.located(error))?;
        Ok(config)
    }

    /// Which stores the service uses: clustered if `storage.database_url` is set. The checks make sure that `storage.mode`,
    /// if it is set, says the same.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.storage.mode_of_urls()
    }

    /// The effective configuration as TOML, with redacted secrets and the source of each value.
    #[must_use]
    pub fn show(&self) -> String {
        show::show(self)
    }

    /// Refuses a configuration that would expose an open service to the network; see [`Server::check_exposure`].
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        self.server.check_exposure().map_err(|error| self.located(error))
    }

    /// Whether the file, the environment or a flag sets this option.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        !matches!(self.sources.get(key), None | Some(Source::Default | Source::Derived))
    }

    /// The file from which this option was read, if an environment variable with `_FILE` names one.
    #[must_use]
    pub fn file_of(&self, key: &str) -> Option<&Path> {
        match self.sources.get(key) {
            Some(Source::EnvironmentFile(_, path)) => Some(path),
            Some(_) | None => None,
        }
    }

    fn read(values: layers::Values) -> Result<Self, ConfigError> {
        let sources: BTreeMap<_, _> = values
            .iter()
            .map(|(key, (_, source))| (key.clone(), source.clone()))
            .collect();
        // The crate `config` also reads numbers and booleans from text, which environment variables need.
        let mut root = config::Map::new();
        for (key, (value, _)) in values {
            insert(&mut root, &key, value);
        }
        let read: Result<Self, config::ConfigError> = config::Value::new(None, root).try_deserialize();
        let mut config = read.map_err(|error| locate(ConfigError::from(error), &sources))?;
        config.sources = sources;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.server.check()?;
        self.storage.check()?;
        self.tokens.check(&|key| self.is_set(key))?;
        self.keys.check()?;
        self.password.check()?;
        self.revocation.check()?;
        let mut anonymous_scopes = self.server.anonymous_scopes().iter();
        self.gateway
            .check(anonymous_scopes.any(|scope| scope == CallerScope::Validate.as_str()))?;
        self.agent.check()?;
        self.telemetry.check()?;
        if self.mode() == Mode::Clustered && !self.keys.is_set() {
            let problem = "must be set when clustered (or keys.master_key_command), the same for every replica; make one with `openssl rand -base64 32`";
            return Err(ConfigError::at("keys.master_key", problem));
        }
        Ok(())
    }

    fn located(&self, error: ConfigError) -> ConfigError {
        locate(error, &self.sources)
    }
}

/// Adds where the option was set, if the error does not say it yet.
fn locate(error: ConfigError, sources: &BTreeMap<String, Source>) -> ConfigError {
    match sources.get(&error.key) {
        Some(source) if error.source.is_none() && *source != Source::Derived => error.from_source(source.clone()),
        Some(_) | None => error,
    }
}

fn insert(map: &mut config::Map<String, config::Value>, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            map.insert(key.to_owned(), config_value(value));
        }
        Some((section, rest)) => {
            let inner = map
                .entry(section.to_owned())
                .or_insert_with(|| config::Map::<String, config::Value>::new().into());
            if let config::ValueKind::Table(inner) = &mut inner.kind {
                insert(inner, rest, value);
            }
        }
    }
}

fn config_value(value: toml::Value) -> config::Value {
    use toml::Value;
    match value {
        Value::String(text) => text.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::Boolean(flag) => flag.into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(items) => items.into_iter().map(config_value).collect::<Vec<_>>().into(),
        Value::Table(table) => {
            let entries = table.into_iter().map(|(name, value)| (name, config_value(value)));
            entries.collect::<config::Map<_, _>>().into()
        }
    }
}
