//! Lifetimes and limits per client.

use std::time::Duration;

use crate::config::Tokens as TokenConfig;
use crate::model::{Client, ReusePolicy};

/// The lifetimes and limits that hold for a client: its own, else those of the configuration.
pub(super) struct ClientLimits {
    /// How long an access token lives.
    pub(super) access_ttl: Duration,
    /// How long a session may go without a refresh.
    pub(super) idle_ttl: Duration,
    /// How long a session may last.
    pub(super) session_ttl: Duration,
    /// How long the previous refresh token is accepted again.
    pub(super) refresh_grace: Duration,
    /// What a second use of the previous refresh token needs to be accepted.
    pub(super) reuse_policy: ReusePolicy,
    /// The most live sessions of one user at the client.
    pub(super) max_sessions_per_user: u32,
}

impl ClientLimits {
    /// The limits of `client`.
    pub(super) fn of(client: &Client, config: &TokenConfig) -> Self {
        Self {
            access_ttl: client.access_token_ttl.unwrap_or(config.access_ttl),
            idle_ttl: client.refresh_idle_ttl.unwrap_or(config.refresh_idle_ttl),
            session_ttl: client.session_ttl.unwrap_or(config.session_ttl),
            refresh_grace: client.refresh_grace.unwrap_or(config.refresh_grace),
            reuse_policy: client.reuse_policy.unwrap_or(config.reuse_policy),
            max_sessions_per_user: match client.max_sessions_per_user {
                0 => config.max_sessions_per_user,
                own => own,
            },
        }
    }
}
