//! Where Redis is, and how the client library is configured.
//!
//! Each setting here prevents a fault: by default, fred repeats a script whose reply was lost, queues commands without
//! a limit and waits forever.

use std::sync::Arc;
use std::time::Duration;

use fred::types::Builder;
use fred::types::config::{
    Config, ConnectionConfig, CredentialProvider, ReconnectError, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    UnresponsiveConfig,
};

use super::breaker::COOLDOWN;
use super::discovery::Finder;
use super::health::Examiner;
use super::login::{Login, SentinelLogin};
use super::tls;
use crate::config::{RedisServers, RedisUrl, check_redis_prefix};

/// The settings of the Redis store (`storage.redis_*`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers, and how to log in.
    pub url: RedisUrl,
    /// The prefix of every key.
    pub prefix: String,
    /// How many connections carry the scripts. Each listener to the stream has one more of its own.
    pub pool: usize,
    /// How long a call may take.
    pub timeout: Duration,
}

/// The most calls in flight on one connection. More could not be answered in time, so they are refused.
pub(super) const MAX_IN_FLIGHT: usize = 1024;

impl Settings {
    /// How long it may take to connect, or to examine a server.
    pub(super) fn connect_timeout(&self) -> Duration {
        (self.timeout * 3).max(Duration::from_secs(1))
    }

    /// The servers of the URL, without user and password. Nodes that were found from one such set say nothing about another one.
    #[must_use]
    pub fn deployment(&self) -> String {
        let kind = match &self.url.servers {
            RedisServers::Single(_) | RedisServers::Unix(_) => "single",
            RedisServers::Cluster(_) => "cluster",
            RedisServers::Sentinel(_, service) => return format!("sentinel {service} {}", self.address()),
        };
        format!("{kind} {}", self.address())
    }

    /// Where Redis is: the hosts and ports of the URL, without its password.
    pub(super) fn address(&self) -> String {
        let mut hosts = match &self.url.servers {
            RedisServers::Single((host, port)) => vec![format!("{host}:{port}")],
            RedisServers::Unix(path) => vec![path.display().to_string()],
            RedisServers::Sentinel(nodes, _) | RedisServers::Cluster(nodes) => {
                nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect()
            }
        };
        hosts.sort();
        hosts.join(", ")
    }

    /// A builder of clients that log in with `login`. The error says which setting is wrong; it contains no secret.
    pub(super) fn builder(&self, login: &Arc<Login>) -> Result<Builder, String> {
        check_redis_prefix(&self.prefix).map_err(|error| error.to_string())?;
        let tls = self.url.tls.as_ref().map(tls::config).transpose();
        let config = Config {
            server: self.servers(),
            database: self.url.database,
            tls: tls.map_err(|problem| format!("storage.redis_url: {problem}"))?,
            // Without a password, fred checks with PING that Redis has loaded its data; with a provider it would not.
            credential_provider: self.has_password().then(|| Arc::clone(login) as _),
            ..Config::default()
        };
        Ok(self.builder_of(config))
    }

    fn builder_of(&self, config: Config) -> Builder {
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(self.connection_config());
        builder.with_performance_config(|performance| performance.default_command_timeout = self.timeout);
        builder
    }

    /// How to find the masters; none for one server. `builder` makes connections to servers.
    pub(super) fn finder(&self, builder: &Builder, login: &Arc<Login>) -> Option<Finder> {
        let list = |nodes: &[(String, u16)]| {
            let nodes = nodes.iter().map(|(host, port)| Server::new(host.as_str(), *port));
            nodes.collect()
        };
        let timeout = self.connect_timeout();
        match &self.url.servers {
            RedisServers::Single(_) | RedisServers::Unix(_) => None,
            RedisServers::Cluster(nodes) => Some(Finder::of_cluster(builder.clone(), list(nodes), timeout)),
            RedisServers::Sentinel(nodes, service) => {
                let has_password = self.has_password() || self.url.login.sentinel_password.is_some();
                let provider = || Arc::new(SentinelLogin(Arc::clone(login))) as Arc<dyn CredentialProvider>;
                let mut builder = builder.clone();
                builder.with_config(|config| {
                    // A Sentinel has no databases.
                    config.database = None;
                    config.credential_provider = has_password.then(provider);
                });
                Some(Finder::of_sentinels(builder, list(nodes), service.clone(), timeout))
            }
        }
    }

    /// Examines this deployment over temporary connections.
    pub(super) fn examiner(&self, builder: &Builder, login: &Arc<Login>) -> Examiner {
        let builder = Self::read_only_builder(builder);
        Examiner {
            finder: self.finder(&builder, login),
            builder,
            settings: self.clone(),
        }
    }

    /// Whether the servers are nodes of a Redis Cluster.
    pub(super) fn is_clustered(&self) -> bool {
        matches!(self.url.servers, RedisServers::Cluster(_))
    }

    /// Whether connections log in.
    pub(super) fn has_password(&self) -> bool {
        self.url.login.password.is_some()
    }

    /// The one server of the configuration. In place of a Sentinel or a cluster it is the first node: [`at`] replaces it.
    fn servers(&self) -> ServerConfig {
        match &self.url.servers {
            RedisServers::Single((host, port)) => ServerConfig::new_centralized(host.as_str(), *port),
            RedisServers::Unix(path) => ServerConfig::Unix { path: path.clone() },
            RedisServers::Sentinel(nodes, _) | RedisServers::Cluster(nodes) => {
                let (host, port) = nodes.first().map_or(("", 0), |(host, port)| (host.as_str(), *port));
                ServerConfig::new_centralized(host, port)
            }
        }
    }

    /// The same builder for clients that only read: their commands may be repeated.
    pub(super) fn read_only_builder(builder: &Builder) -> Builder {
        let mut read_only = builder.clone();
        read_only.with_connection_config(|connection| connection.max_command_attempts = 3);
        read_only
    }

    fn connection_config(&self) -> ConnectionConfig {
        ConnectionConfig {
            connection_timeout: self.connect_timeout(),
            internal_command_timeout: self.connect_timeout(),
            // One attempt, because a script whose reply was lost counts as run.
            max_command_attempts: 1,
            // fred's task puts reconnections into the same queue and ends if it is full. `MAX_IN_FLIGHT` is reached
            // first.
            max_command_buffer_len: MAX_IN_FLIGHT * 2,
            // For a peer that is silent but not closed. fred counts from the last write, even if earlier commands are
            // unanswered: the breaker makes writes stop, and its cool-down is longer than this.
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

/// The same builder for one server. fred's modes for Sentinel and Cluster are not used: a client of a cluster blocks all calls
/// while it reconnects one node, and a client of Sentinel asks one Sentinel, and only after a connection broke.
pub(super) fn at(builder: &Builder, server: &Server) -> Builder {
    let mut builder = builder.clone();
    builder.with_config(|config| config.server = ServerConfig::Centralized { server: server.clone() });
    builder
}

/// The same builder for connections that are kept open.
pub(super) fn resident(builder: &Builder) -> Builder {
    let mut builder = builder.clone();
    builder.set_policy(reconnect_policy());
    builder.with_config(|config| config.fail_fast = false);
    builder
}

/// Reconnects forever, after 100 ms to 2 s. The jitter prevents all replicas from reconnecting at the same moment.
fn reconnect_policy() -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::new_exponential(0, 100, 2_000, 2);
    policy.set_jitter(250);
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings {
            url: RedisUrl::parse(&url.into()).unwrap(),
            prefix: "cs".into(),
            pool: 4,
            timeout: Duration::from_millis(300),
        }
    }

    fn built(settings: &Settings) -> Result<Builder, String> {
        settings.builder(&Arc::new(Login::new(&settings.url)))
    }

    #[test]
    fn every_documented_form_of_url_is_accepted() {
        for url in [
            "redis://127.0.0.1",
            "redis://:pass@127.0.0.1:6380/3",
            "rediss://user:pass@redis.example:6380",
            "redis-sentinel://:pass@a:26379/1?sentinelServiceName=main&node=b:26379",
            "rediss-sentinel://a?sentinelServiceName=main",
            "redis-cluster://a:7000?node=b:7001",
            "rediss-cluster://a:7000",
            "redis+unix:///run/redis.sock",
        ] {
            assert!(built(&settings(url)).is_ok(), "{url}");
        }
    }

    #[test]
    fn errors_name_the_setting() {
        let error = built(&settings("rediss://:canary@h?sslrootcert=/nonexistent/ca.pem")).unwrap_err();
        assert!(error.starts_with("storage.redis_url: /nonexistent/ca.pem"), "{error}");
        for prefix in ["", "a{b}", "a b", &"x".repeat(65)] {
            let mut settings = settings("redis://h");
            settings.prefix = prefix.into();
            assert!(built(&settings).is_err(), "{prefix}");
        }
    }

    #[test]
    fn the_address_names_the_hosts_and_no_password() {
        for (url, address) in [
            ("redis://user:canary@db.example", "db.example:6379"),
            ("redis-cluster://:canary@a:7000?node=b:7001", "a:7000, b:7001"),
            (
                "redis-sentinel://:canary@a:26379/1?sentinelServiceName=main&node=b:26379",
                "a:26379, b:26379",
            ),
        ] {
            assert_eq!(settings(url).address(), address);
        }
    }

    #[test]
    fn debug_hides_the_url() {
        assert!(!format!("{:?}", settings("redis://:canary@h")).contains("canary"));
    }
}
