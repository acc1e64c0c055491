//! `[tokens]`: what tokens say and how long they live.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::{algorithm, duration, reuse_policy};
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::session::MAX_SESSION_TTL;
use crate::model::{Algorithm, ReusePolicy};

const MINUTE: Duration = Duration::from_mins(1);

/// `[tokens]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    /// `iss`, exactly.
    pub issuer: String,
    /// `aud` where a request names none.
    pub default_audience: String,
    /// `aud` of tokens that call Countersign itself.
    pub caller_audience: String,
    /// Of new signing keys.
    #[serde(with = "algorithm")]
    pub algorithm: Algorithm,
    /// Life of an access token.
    #[serde(with = "duration")]
    pub access_ttl: Duration,
    /// By which part of its life it may end earlier; 0 to 0.5.
    pub access_jitter: f64,
    /// How long a session may go without a refresh.
    #[serde(with = "duration")]
    pub refresh_idle_ttl: Duration,
    /// How long a session may last at all.
    #[serde(with = "duration")]
    pub session_ttl: Duration,
    /// How long the previous refresh token is answered again.
    #[serde(with = "duration")]
    pub refresh_grace: Duration,
    /// What that needs.
    #[serde(with = "reuse_policy")]
    pub reuse_policy: ReusePolicy,
    /// Difference of clocks that is forgiven.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// Live sessions of one user at one client.
    pub max_sessions_per_user: u32,
}

impl Tokens {
    /// `is_set` tells what somebody set: of two contradictory values a default gives way silently (the shorter life
    /// counts everywhere), but two that were both chosen are a mistake.
    pub(super) fn check(&self, is_set: &dyn Fn(&str) -> bool) -> Checked {
        let second = Duration::from_secs(1);
        check::http_url("tokens.issuer", &self.issuer)?;
        check::name("tokens.default_audience", &self.default_audience)?;
        check::name("tokens.caller_audience", &self.caller_audience)?;
        if self.caller_audience == self.default_audience {
            return Err(ConfigError::new(
                "tokens.caller_audience: must differ from tokens.default_audience, or every service is handed tokens for \
                 this one",
            ));
        }
        check::span("tokens.access_ttl", self.access_ttl, second..=MAX_ACCESS_TOKEN_TTL)?;
        check::number("tokens.access_jitter", self.access_jitter, 0.0..=0.5)?;
        check::span(
            "tokens.refresh_idle_ttl",
            self.refresh_idle_ttl,
            second..=MAX_SESSION_TTL,
        )?;
        check::span("tokens.session_ttl", self.session_ttl, second..=MAX_SESSION_TTL)?;
        check::span("tokens.refresh_grace", self.refresh_grace, Duration::ZERO..=5 * MINUTE)?;
        check::span("tokens.leeway", self.leeway, Duration::ZERO..=5 * second)?;
        check::number("tokens.max_sessions_per_user", self.max_sessions_per_user, 1..=10_000)?;
        let lives = [
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
        for (key, value, limit_key, limit) in lives {
            if is_set(key) && is_set(limit_key) {
                check::at_most(key, value, limit_key, limit)?;
            }
        }
        Ok(())
    }
}
