//! `[tokens]`: the contents and lifetimes of tokens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::{algorithm, duration, reuse_policy};
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::session::MAX_SESSION_TTL;
use crate::model::{Algorithm, ReusePolicy};

const MINUTE: Duration = Duration::from_mins(1);

/// The section `[tokens]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    /// The claim `iss`; compared as an exact string.
    pub issuer: String,
    /// The claim `aud` if a request names no audience.
    pub default_audience: String,
    /// The claim `aud` of tokens with which clients call Countersign itself.
    pub caller_audience: String,
    /// The algorithm of new signing keys.
    #[serde(with = "algorithm")]
    pub algorithm: Algorithm,
    /// The lifetime of an access token.
    #[serde(with = "duration")]
    pub access_ttl: Duration,
    /// An access token ends earlier by a random part of its lifetime, at most this part; 0 to 0.5.
    pub access_jitter: f64,
    /// How long a session may go without a refresh.
    #[serde(with = "duration")]
    pub refresh_idle_ttl: Duration,
    /// The longest duration of a session.
    #[serde(with = "duration")]
    pub session_ttl: Duration,
    /// How long the previous refresh token is accepted again.
    #[serde(with = "duration")]
    pub refresh_grace: Duration,
    /// When the previous refresh token is accepted again.
    #[serde(with = "reuse_policy")]
    pub reuse_policy: ReusePolicy,
    /// The difference between clocks that token verification tolerates.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// The most live sessions of one user at one client.
    pub max_sessions_per_user: u32,
    /// Whether access tokens carry the name of the user.
    pub username_claim: bool,
}

impl Tokens {
    /// `is_set` says whether the operator set an option. If a lifetime contradicts a longer default, the shorter one
    /// applies without an error; if the operator set both, it is a mistake and an error.
    pub(super) fn check(&self, is_set: &dyn Fn(&str) -> bool) -> CheckResult {
        let second = Duration::from_secs(1);
        check::http_url("tokens.issuer", &self.issuer)?;
        check::name("tokens.default_audience", &self.default_audience)?;
        check::name("tokens.caller_audience", &self.caller_audience)?;
        if self.caller_audience == self.default_audience {
            return Err(ConfigError::new(
                "tokens.caller_audience: must differ from tokens.default_audience, else every service receives tokens that \
                 are valid for Countersign itself",
            ));
        }
        check::duration("tokens.access_ttl", self.access_ttl, second..=MAX_ACCESS_TOKEN_TTL)?;
        check::number("tokens.access_jitter", self.access_jitter, 0.0..=0.5)?;
        check::duration(
            "tokens.refresh_idle_ttl",
            self.refresh_idle_ttl,
            second..=MAX_SESSION_TTL,
        )?;
        check::duration("tokens.session_ttl", self.session_ttl, second..=MAX_SESSION_TTL)?;
        check::duration("tokens.refresh_grace", self.refresh_grace, Duration::ZERO..=5 * MINUTE)?;
        check::duration("tokens.leeway", self.leeway, Duration::ZERO..=5 * second)?;
        check::number("tokens.max_sessions_per_user", self.max_sessions_per_user, 1..=10_000)?;
        let ordered_lifetimes = [
            (
                "tokens.access_ttl",
                self.access_ttl,
                "tokens.refresh_idle_ttl",
                self.refresh_idle_ttl,
            ),
            (
                "tokens.access_ttl",
                self.access_ttl,
                "tokens.session_ttl",
                self.session_ttl,
            ),
            (
                "tokens.refresh_idle_ttl",
                self.refresh_idle_ttl,
                "tokens.session_ttl",
                self.session_ttl,
            ),
        ];
        for (key, value, limit_key, limit) in ordered_lifetimes {
            if is_set(key) && is_set(limit_key) {
                check::at_most(key, value, limit_key, limit)?;
            }
        }
        Ok(())
    }
}
