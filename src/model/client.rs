//! Clients: the applications that ask for tokens.

use std::time::Duration;

use super::ids::ClientId;
use super::scope::has_caller_prefix;
use crate::clock::UnixMillis;

/// A way for a client to get tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Log a user in with username and password.
    Password,
    /// Get the client's own token with its secret (RFC 6749 §4.4).
    ClientSecret,
    /// Exchange a token that it received for one with which it acts for the token's subject (RFC 8693).
    Exchange,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Self; 3] = [Self::Password, Self::ClientSecret, Self::Exchange];

    /// The grant as stored and as written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::ClientSecret => "client_secret",
            Self::Exchange => "exchange",
        }
    }

    /// The reverse of [`Grant::as_str`].
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == text)
    }
}

/// When a refresh token that was already used is accepted again within the grace period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReusePolicy {
    /// Only with the same `attempt_id` as the first time.
    #[default]
    Strict,
    /// With any `attempt_id`.
    Tolerant,
}

impl ReusePolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Strict, Self::Tolerant];

    /// The policy as stored and as configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Tolerant => "tolerant",
        }
    }

    /// The reverse of [`ReusePolicy::as_str`].
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }
}

/// A client as stored, without its secrets: only the store sees their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The id, chosen by the creator of the client.
    pub id: ClientId,
    /// A name for users and operators.
    pub display_name: String,
    /// How it may get tokens; sorted, without duplicates.
    pub grants: Vec<Grant>,
    /// The audiences that its tokens may have; `*` allows every audience.
    pub audiences: Vec<String>,
    /// The scopes that its tokens may have; `*` allows every scope except caller scopes (`countersign:*`).
    pub scopes: Vec<String>,
    /// The lifetime of its access tokens. `None` means the configured value, here and in the next four fields.
    pub access_token_ttl: Option<Duration>,
    /// How long a session may go without a refresh.
    pub refresh_idle_ttl: Option<Duration>,
    /// The longest duration of a session.
    pub session_ttl: Option<Duration>,
    /// How long the previous refresh token is accepted again.
    pub refresh_grace: Option<Duration>,
    /// When the previous refresh token is accepted again.
    pub reuse_policy: Option<ReusePolicy>,
    /// The most live sessions of one user at this client; 0 means the configured value.
    pub max_sessions_per_user: u32,
    /// Whether the client is refused tokens.
    pub disabled: bool,
    /// When the row was created.
    pub created: UnixMillis,
    /// When the row was last changed. An update may require this value (optimistic lock).
    pub updated: UnixMillis,
}

impl Client {
    /// Whether it may use this grant.
    #[must_use]
    pub fn may(&self, grant: Grant) -> bool {
        self.grants.contains(&grant)
    }

    /// The scopes of a token whose request names none: the listed ones without `*` and without caller scopes.
    #[must_use]
    pub fn default_scopes(&self) -> Vec<String> {
        self.scopes
            .iter()
            .filter(|scope| *scope != "*" && !has_caller_prefix(scope))
            .cloned()
            .collect()
    }

    /// The caller scopes that it lists: its rights on Countersign itself.
    pub fn caller_scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes
            .iter()
            .map(String::as_str)
            .filter(|scope| has_caller_prefix(scope))
    }
}

/// The new values of an update of a client; a field that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are Client's")]
pub struct ClientChange {
    pub display_name: Option<String>,
    pub grants: Option<Vec<Grant>>,
    pub audiences: Option<Vec<String>>,
    pub scopes: Option<Vec<String>>,
    pub access_token_ttl: Option<Option<Duration>>,
    pub refresh_idle_ttl: Option<Option<Duration>>,
    pub session_ttl: Option<Option<Duration>>,
    pub refresh_grace: Option<Option<Duration>>,
    pub reuse_policy: Option<Option<ReusePolicy>>,
    pub max_sessions_per_user: Option<u32>,
    pub disabled: Option<bool>,
}
