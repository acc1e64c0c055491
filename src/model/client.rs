//! Clients: the applications that ask for tokens.

use std::time::Duration;

use super::ids::ClientId;
use crate::clock::UnixMillis;

/// A way to get tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Log a person in with name and password.
    Password,
    /// The client's own token, for its secret (RFC 6749 §4.4).
    ClientSecret,
    /// Act for somebody whose token it holds (RFC 8693).
    Exchange,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Self; 3] = [Self::Password, Self::ClientSecret, Self::Exchange];

    /// As stored and as written on the command line.
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

/// What a second presentation of the previous refresh token within the grace needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReusePolicy {
    /// The same `attempt_id` as the first presentation, exactly.
    #[default]
    Strict,
    /// Nothing.
    Tolerant,
}

impl ReusePolicy {
    /// As stored and as configured.
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
        [Self::Strict, Self::Tolerant]
            .into_iter()
            .find(|policy| policy.as_str() == text)
    }
}

/// A client as stored. Its secrets are not here: the store compares their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Chosen by its creator.
    pub id: ClientId,
    /// For people.
    pub display_name: String,
    /// Sorted, without duplicates.
    pub grants: Vec<Grant>,
    /// Whom its tokens may be for; `*` is anyone.
    pub audiences: Vec<String>,
    /// What its tokens may carry; `*` is anything but `countersign:*`.
    pub scopes: Vec<String>,
    /// How long its access tokens live; none means the configuration's. The other lifetimes likewise.
    pub access_token_ttl: Option<Duration>,
    /// How long a session may go without a refresh.
    pub refresh_idle_ttl: Option<Duration>,
    /// How long a session may last at all.
    pub session_ttl: Option<Duration>,
    /// How long the previous refresh token may be presented again.
    pub refresh_grace: Option<Duration>,
    /// What presenting it again needs; none means the configuration's.
    pub reuse_policy: Option<ReusePolicy>,
    /// The most live sessions of one user here; 0 means the configuration's.
    pub max_sessions_per_user: u32,
    /// Gets no tokens.
    pub disabled: bool,
    /// When the row was made.
    pub created: UnixMillis,
    /// When the row was last changed: the optimistic lock of an update.
    pub updated: UnixMillis,
}

impl Client {
    /// Whether it may get tokens in this way.
    #[must_use]
    pub fn may(&self, grant: Grant) -> bool {
        self.grants.contains(&grant)
    }

    /// The scopes that an empty request means: the listed ones without `*` and without `countersign:*`.
    #[must_use]
    pub fn default_scopes(&self) -> Vec<String> {
        let own = super::grant::OWN_PREFIX;
        self.scopes
            .iter()
            .filter(|scope| *scope != "*" && !scope.starts_with(own))
            .cloned()
            .collect()
    }

    /// The `countersign:*` scopes that it lists: its rights as a caller.
    pub fn caller_scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes
            .iter()
            .map(String::as_str)
            .filter(|scope| scope.starts_with(super::grant::OWN_PREFIX))
    }
}

/// What an update of a client changes; `None` leaves a field alone.
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
