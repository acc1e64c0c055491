//! Where Redis is, and how fred is told to treat it.
//!
//! Each setting here answers a fault: fred's own defaults repeat a script whose reply was lost, queue without end and
//! wait for ever.

use std::time::Duration;

use fred::types::Builder;
use fred::types::config::{
    ClusterDiscoveryPolicy, Config, ConnectionConfig, ReconnectError, ReconnectPolicy, TcpConfig, UnresponsiveConfig,
};

use super::breaker::COOLDOWN;
use crate::secret::SecretText;

/// What the Redis store needs to know (`storage.redis_*`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://`, `redis-sentinel://…?sentinelServiceName=` or `redis-cluster://`, or their `rediss` forms.
    pub url: SecretText,
    /// What every key begins with.
    pub prefix: String,
    /// How many connections carry the scripts; the stream has one of its own.
    pub pool: usize,
    /// How long a call may take.
    pub timeout: Duration,
}

/// More calls than this a connection are refused: they could not be answered in time.
pub(super) const IN_FLIGHT: usize = 1024;

const SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis-sentinel",
    "rediss-sentinel",
    "redis-cluster",
    "rediss-cluster",
];

impl Settings {
    /// How long making a connection, or asking a server about itself, may take.
    pub(super) fn patience(&self) -> Duration {
        (self.timeout * 3).max(Duration::from_secs(1))
    }

    /// A builder of clients, or what is wrong with the settings. The message holds no part of the URL: it may hold a
    /// password.
    pub(super) fn builder(&self) -> Result<Builder, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(plain) {
            return Err("storage.redis_prefix: must be 1-64 of letters, digits and _ - . :".into());
        }
        let scheme = self.url.expose().split_once("://").map_or("", |(scheme, _)| scheme);
        if !SCHEMES.contains(&scheme) {
            return Err(format!(
                "storage.redis_url: must begin with one of {}",
                SCHEMES.join(", ")
            ));
        }
        let mut config =
            Config::from_url(self.url.expose()).map_err(|error| format!("storage.redis_url: {}", error.details()))?;
        if config.server.is_clustered() {
            // With the configured endpoints alone, losing the one seed was never recovered from.
            config
                .server
                .set_cluster_discovery_policy(ClusterDiscoveryPolicy::UseCache)
                .map_err(|error| error.to_string())?;
        }
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(self.connection());
        builder.with_performance_config(|performance| performance.default_command_timeout = self.timeout);
        Ok(builder)
    }

    /// The same for clients that only read: what they do may be repeated and redirected.
    pub(super) fn reader(builder: &Builder) -> Builder {
        let mut reader = builder.clone();
        reader.with_connection_config(|connection| {
            connection.max_command_attempts = 3;
            connection.max_redirections = 5;
        });
        reader
    }

    fn connection(&self) -> ConnectionConfig {
        ConnectionConfig {
            connection_timeout: self.patience(),
            internal_command_timeout: self.patience(),
            // One attempt: a script whose reply was lost counts as run.
            max_command_attempts: 1,
            // None: a redirected call comes back with an error that says so, and nothing ran. With one attempt fred
            // would answer MOVED with an error that also stands for calls that did run, and ASK would end its task.
            max_redirections: 0,
            // fred's own task puts reconnections into the same queue and dies if it is full: our gate stops far below.
            max_command_buffer_len: IN_FLIGHT * 2,
            // A peer that is silent, not closed. fred counts from the last write, whatever is still unanswered before
            // it: the breaker sees to it that writes cease, and its cool-down is longer than this.
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(self.timeout + COOLDOWN / 2),
                interval: COOLDOWN / 5,
            },
            tcp: TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            },
            reconnect_errors: vec![
                ReconnectError::ReadOnly,
                ReconnectError::Loading,
                ReconnectError::MasterDown,
                ReconnectError::ClusterDown,
            ],
            ..ConnectionConfig::default()
        }
    }
}

/// For ever, from 100 ms to 2 s apart, with jitter: replicas must not come back all at once.
pub(super) fn reconnection() -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::new_exponential(0, 100, 2_000, 2);
    policy.set_jitter(250);
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings {
            url: SecretText::new(url),
            prefix: "cs".into(),
            pool: 4,
            timeout: Duration::from_millis(300),
        }
    }

    #[test]
    fn every_documented_form_of_url_is_read() {
        for url in [
            "redis://127.0.0.1",
            "redis://:pass@127.0.0.1:6380/3",
            "rediss://user:pass@redis.example:6380",
            "redis-sentinel://:pass@a:26379/1?sentinelServiceName=main&node=b:26379",
            "rediss-sentinel://a?sentinelServiceName=main",
            "redis-cluster://a:7000?node=b:7001",
            "rediss-cluster://a:7000",
        ] {
            assert!(settings(url).builder().is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for url in [
            "",
            "127.0.0.1:6379",
            "http://canary@h",
            "redis://",
            "redis-sentinel://:canary@a:26379",
            "redis://:canary@h/1/2",
            "redis://:canary@h/many",
        ] {
            let message = settings(url).builder().expect_err(url);
            assert!(
                message.starts_with("storage.redis_url") && !message.contains("canary"),
                "{message}"
            );
        }
        for prefix in ["", "a{b}", "a b", &"x".repeat(65)] {
            let mut settings = settings("redis://h");
            settings.prefix = prefix.into();
            assert!(settings.builder().is_err(), "{prefix}");
        }
    }

    #[test]
    fn debug_hides_the_url() {
        assert!(!format!("{:?}", settings("redis://:canary@h")).contains("canary"));
    }
}
