//! `[server]`: listeners, TLS and limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::listen::Listen;
use super::values::{as_texts, duration, networks, optional, optional_list, table};
use crate::model::{CallerScope, Network};

/// The least number of connections that a source gets by default.
const SMALLEST_SHARE: usize = 64;

/// The section `[server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// The address of the gRPC listener.
    pub listen: Listen,
    /// The address of the HTTP listener: JWKS, metrics, health.
    #[serde(deserialize_with = "super::listen::tcp")]
    pub http_listen: SocketAddr,
    /// Whether gRPC reflection is served. Always set after loading.
    #[serde(default)]
    pub reflection: Option<bool>,
    /// The scopes of a caller without a token. Always set after loading.
    #[serde(default, deserialize_with = "optional_list")]
    pub anonymous_scopes: Option<Vec<String>>,
    /// How long a shutdown waits for calls in flight.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// The most open connections.
    pub max_connections: usize,
    /// The most open connections from one source. Always set after loading.
    #[serde(default, deserialize_with = "optional")]
    pub max_connections_per_source: Option<usize>,
    /// The addresses that many callers share, to which limits by source do not apply.
    #[serde(deserialize_with = "networks", serialize_with = "as_texts")]
    pub shared_sources: Vec<Network>,
    /// The deadline of a call that names none.
    #[serde(with = "duration")]
    pub default_deadline: Duration,
    /// The longest deadline that a call may name.
    #[serde(with = "duration")]
    pub max_deadline: Duration,
    /// TLS of both listeners.
    pub tls: Tls,
}

/// The section `[server.tls]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// PEM file with the certificate chain.
    #[serde(default, deserialize_with = "optional")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[serde(default, deserialize_with = "optional")]
    pub key: Option<PathBuf>,
    /// PEM file with the authorities that sign client certificates.
    #[serde(default, deserialize_with = "optional")]
    pub client_ca: Option<PathBuf>,
    /// Client ids by the URI or DNS name in the client's certificate.
    #[serde(deserialize_with = "table")]
    pub client_identities: BTreeMap<String, String>,
}

impl Server {
    /// Whether both listeners are on loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.is_local() && self.http_listen.ip().is_loopback()
    }

    /// Whether gRPC reflection is served.
    #[must_use]
    pub fn reflection(&self) -> bool {
        self.reflection.unwrap_or(false)
    }

    /// The most open connections from one source.
    #[must_use]
    pub fn max_connections_per_source(&self) -> usize {
        self.max_connections_per_source.unwrap_or(self.max_connections)
    }

    /// The scopes of a caller without a token.
    #[must_use]
    pub fn anonymous_scopes(&self) -> &[String] {
        self.anonymous_scopes.as_deref().unwrap_or_default()
    }

    /// Refuses a configuration that would expose an open service to the network: a listener off loopback without TLS, or
    /// administrative scopes for anonymous callers. `serve --insecure` skips this check.
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        let http_listen = Listen::Tcp(self.http_listen);
        for (key, address) in [("server.listen", &self.listen), ("server.http_listen", &http_listen)] {
            if !address.is_local() && self.tls.cert.is_none() {
                let problem = format!(
                    "{address} is not loopback and there is no TLS: set server.tls.cert and server.tls.key, \
                     or give --insecure if a proxy in front of it does TLS"
                );
                return Err(ConfigError::at(key, problem));
            }
        }
        let administrative = |scope: &&String| CallerScope::parse(scope).is_some_and(CallerScope::is_administrative);
        match self.anonymous_scopes().iter().find(administrative) {
            Some(scope) if !self.is_loopback() => Err(ConfigError::at(
                "server.anonymous_scopes",
                format!(
                    "{scope} would allow every caller on the network to administer this service; remove it, or give \
                     --insecure to serve nevertheless"
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn check(&self) -> CheckResult {
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        check::duration("server.drain_timeout", self.drain_timeout, Duration::ZERO..=10 * minute)?;
        check::number("server.max_connections", self.max_connections, 1..=1_000_000)?;
        let of_source = self.max_connections_per_source();
        check::number("server.max_connections_per_source", of_source, 1..=1_000_000)?;
        if of_source > self.max_connections {
            let problem = format!(
                "is {of_source}, which is more than server.max_connections = {}",
                self.max_connections
            );
            return Err(ConfigError::at("server.max_connections_per_source", problem));
        }
        check::duration(
            "server.default_deadline",
            self.default_deadline,
            second / 10..=5 * minute,
        )?;
        check::duration("server.max_deadline", self.max_deadline, second / 10..=5 * minute)?;
        check::at_most(
            "server.default_deadline",
            self.default_deadline,
            "server.max_deadline",
            self.max_deadline,
        )?;
        for scope in self.anonymous_scopes() {
            if CallerScope::parse(scope).is_none() {
                let problem = format!("{scope:?} is not one of {}", CallerScope::list());
                return Err(ConfigError::at("server.anonymous_scopes", problem));
            }
        }
        self.tls.check()
    }

    /// Sets the options that have no fixed default and were not set. Returns their keys.
    pub(super) fn derive(&mut self, embedded: bool) -> Vec<&'static str> {
        let mut derived = Vec::new();
        if self.reflection.is_none() {
            self.reflection = Some(embedded);
            derived.push("server.reflection");
        }
        if self.max_connections_per_source.is_none() {
            // An eighth; small limits are not divided as much, because a client may have some connections.
            let share = (self.max_connections / 8)
                .max(SMALLEST_SHARE)
                .min(self.max_connections.div_ceil(2));
            self.max_connections_per_source = Some(share);
            derived.push("server.max_connections_per_source");
        }
        if self.anonymous_scopes.is_none() {
            let scopes = if embedded && self.is_loopback() {
                &CallerScope::ANONYMOUS_ON_LOOPBACK[..]
            } else {
                &[]
            };
            self.anonymous_scopes = Some(scopes.iter().map(|scope| scope.as_str().to_owned()).collect());
            derived.push("server.anonymous_scopes");
        }
        derived
    }
}

impl Tls {
    fn check(&self) -> CheckResult {
        check::pem_path("server.tls.cert", self.cert.as_deref())?;
        check::pem_path("server.tls.key", self.key.as_deref())?;
        check::pem_path("server.tls.client_ca", self.client_ca.as_deref())?;
        let needs = |key: &str, other: &str| Err(ConfigError::at(key, format!("needs {other} too")));
        match self {
            Self {
                cert: Some(_),
                key: None,
                ..
            } => needs("server.tls.cert", "server.tls.key"),
            Self {
                cert: None,
                key: Some(_),
                ..
            } => needs("server.tls.key", "server.tls.cert"),
            Self {
                cert: None,
                client_ca: Some(_),
                ..
            } => needs("server.tls.client_ca", "server.tls.cert"),
            Self {
                client_ca: None,
                client_identities,
                ..
            } if !client_identities.is_empty() => needs("server.tls.client_identities", "server.tls.client_ca"),
            Self { .. } => Ok(()),
        }
    }
}
