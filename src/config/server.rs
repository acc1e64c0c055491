//! `[server]`: where it listens, with which TLS, and its limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::listen::Listen;
use super::values::{duration, optional, optional_list, table};

/// The scopes that a caller may hold (without their prefix), and whether an anonymous one may hold them off loopback.
const CALLER_SCOPES: [(&str, bool); 9] = [
    ("issue", true),
    ("refresh", true),
    ("revoke", true),
    ("validate", true),
    ("watch", true),
    ("users", false),
    ("clients", false),
    ("keys", false),
    ("audit", false),
];

/// What an anonymous caller may do where it is a first try on one's own machine.
const FIRST_TRY: [&str; 4] = [
    "countersign:issue",
    "countersign:refresh",
    "countersign:revoke",
    "countersign:validate",
];

/// `[server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// gRPC.
    pub listen: Listen,
    /// JWKS, metrics, health.
    pub http_listen: SocketAddr,
    /// gRPC reflection; set after loading.
    #[serde(default)]
    pub reflection: Option<bool>,
    /// What a caller without a token may do; set after loading.
    #[serde(default, deserialize_with = "optional_list")]
    pub anonymous_scopes: Option<Vec<String>>,
    /// How long a stop waits for calls in flight.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Open connections.
    pub max_connections: usize,
    /// Of a call that brings none.
    #[serde(with = "duration")]
    pub default_deadline: Duration,
    /// The longest that is obeyed.
    #[serde(with = "duration")]
    pub max_deadline: Duration,
    /// TLS of both listeners.
    pub tls: Tls,
}

/// `[server.tls]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// PEM file of the certificate chain.
    #[serde(default, deserialize_with = "optional")]
    pub cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(default, deserialize_with = "optional")]
    pub key: Option<PathBuf>,
    /// PEM file of the authorities of client certificates.
    #[serde(default, deserialize_with = "optional")]
    pub client_ca: Option<PathBuf>,
    /// URI or DNS name of a certificate → client id.
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

    /// What a caller without a token may do.
    #[must_use]
    pub fn anonymous_scopes(&self) -> &[String] {
        self.anonymous_scopes.as_deref().unwrap_or_default()
    }

    /// Refuses what would put an open service on the network: a listener off loopback without TLS, or administration
    /// without a token. For `serve` without `--insecure`.
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        let side = Listen::Tcp(self.http_listen);
        for (key, address) in [("server.listen", &self.listen), ("server.http_listen", &side)] {
            if !address.is_local() && self.tls.cert.is_none() {
                let problem = format!(
                    "{address} is not loopback and there is no TLS: set server.tls.cert and server.tls.key, \
                     or give --insecure if something in front of it does TLS"
                );
                return Err(ConfigError::at(key, problem));
            }
        }
        let open = |scope: &&String| CALLER_SCOPES.iter().any(|(name, safe)| !safe && is_own(scope, name));
        match self.anonymous_scopes().iter().find(open) {
            Some(scope) if !self.is_loopback() => Err(ConfigError::at(
                "server.anonymous_scopes",
                format!(
                    "{scope} would let anyone on the network administer this service (--insecure to do it all the same)"
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn check(&self) -> Checked {
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        check::span("server.drain_timeout", self.drain_timeout, Duration::ZERO..=10 * minute)?;
        check::number("server.max_connections", self.max_connections, 1..=1_000_000)?;
        check::span(
            "server.default_deadline",
            self.default_deadline,
            second / 10..=5 * minute,
        )?;
        check::span("server.max_deadline", self.max_deadline, second / 10..=5 * minute)?;
        check::at_most(
            "server.default_deadline",
            self.default_deadline,
            "server.max_deadline",
            self.max_deadline,
        )?;
        for scope in self.anonymous_scopes() {
            if !CALLER_SCOPES.iter().any(|(name, _)| is_own(scope, name)) {
                let names: Vec<_> = CALLER_SCOPES.iter().map(|(name, _)| *name).collect();
                let problem = format!("{scope:?} is none of countersign: {}", names.join(", "));
                return Err(ConfigError::at("server.anonymous_scopes", problem));
            }
        }
        self.tls.check()
    }

    /// Sets what depends on the mode.
    pub(super) fn derive(&mut self, embedded: bool) -> Vec<&'static str> {
        let mut derived = Vec::new();
        if self.reflection.is_none() {
            self.reflection = Some(embedded);
            derived.push("server.reflection");
        }
        if self.anonymous_scopes.is_none() {
            let first_try = embedded && self.is_loopback();
            let scopes = if first_try { &FIRST_TRY[..] } else { &[] };
            self.anonymous_scopes = Some(scopes.iter().map(ToString::to_string).collect());
            derived.push("server.anonymous_scopes");
        }
        derived
    }
}

impl Tls {
    fn check(&self) -> Checked {
        check::pem_path("server.tls.cert", self.cert.as_deref())?;
        check::pem_path("server.tls.key", self.key.as_deref())?;
        check::pem_path("server.tls.client_ca", self.client_ca.as_deref())?;
        let needs = |key: &str, what: &str| Err(ConfigError::at(key, format!("needs {what} too")));
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

fn is_own(scope: &str, name: &str) -> bool {
    scope.strip_prefix(crate::model::grant::OWN_PREFIX) == Some(name)
}
