//! From the configuration to the small structs that the rooms take.

use std::time::Duration;

use crate::config::{self, Config};
use crate::gateway::GatewayConfig;
use crate::gateway::cookie::{CookieNames, SameSite};
use crate::keys::manager::KeysConfig;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::session::MAX_SESSION_TTL;
use crate::model::{ClientId, Result};
use crate::revocation::{FeedConfig, OnStale};
use crate::store::throttles::Rate;
use crate::throttle::ThrottleConfig;
use crate::token::TokenConfig;

/// The memory of the cache of verified tokens: about 16,000 of them at a typical length.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How long one reconciliation may take before it counts as failed.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn tokens(config: &Config) -> TokenConfig {
    let tokens = &config.tokens;
    TokenConfig {
        issuer: tokens.issuer.clone(),
        default_audience: tokens.default_audience.clone(),
        caller_audience: tokens.caller_audience.clone(),
        access_ttl: tokens.access_ttl,
        refresh_idle_ttl: tokens.refresh_idle_ttl,
        session_ttl: tokens.session_ttl,
        refresh_grace: tokens.refresh_grace,
        reuse_policy: tokens.reuse_policy,
        max_sessions_per_user: tokens.max_sessions_per_user,
        access_jitter: tokens.access_jitter,
        leeway: tokens.leeway,
        cache_bytes: CACHE_BYTES,
    }
}

pub(super) fn keys(config: &Config) -> KeysConfig {
    KeysConfig {
        algorithm: config.tokens.algorithm,
        rotation_period: config.keys.rotation_period,
        prepublish: config.keys.prepublish,
        jwks_max_age: config.keys.jwks_max_age,
        longest_access: MAX_ACCESS_TOKEN_TTL,
        // A refresh key may have served the longest that there can be.
        longest_session: MAX_SESSION_TTL,
        pepper: config.password.pepper,
    }
}

pub(super) fn feed(config: &Config) -> FeedConfig {
    FeedConfig {
        reconcile_interval: config.revocation.reconcile_interval,
        max_staleness: config.revocation.max_staleness,
        on_stale: match config.revocation.on_stale {
            config::OnStale::FailClosed => OnStale::FailClosed,
            config::OnStale::Serve => OnStale::Serve,
        },
        timeout: RECONCILE_TIMEOUT,
    }
}

pub(super) fn gateway(config: &Config) -> Result<GatewayConfig> {
    let gateway = &config.gateway;
    let names = || CookieNames {
        access: gateway.access_cookie.clone(),
        refresh: gateway.refresh_cookie.clone(),
        same_site: match gateway.same_site {
            config::SameSite::Strict => SameSite::Strict,
            config::SameSite::Lax => SameSite::Lax,
        },
    };
    let client = gateway.client_id.as_deref();
    Ok(GatewayConfig {
        cookies: gateway.cookies.then(names),
        client: client.map(|id| ClientId::parse(id, "gateway.client_id")).transpose()?,
        audience: gateway
            .audience
            .clone()
            .unwrap_or_else(|| config.tokens.default_audience.clone()),
        scopes: gateway.scopes.clone(),
        strip_token: gateway.strip_token,
    })
}

pub(super) fn throttle(config: &Config) -> ThrottleConfig {
    let rate = |rate: &config::Rate| Rate {
        count: rate.count,
        per: rate.per,
    };
    ThrottleConfig {
        enabled: config.throttle.enabled,
        account_source: rate(&config.throttle.account_source),
        account: rate(&config.throttle.account),
        source: rate(&config.throttle.source),
        global: config.throttle.global.as_ref().map(rate),
        // As many as wait for a hash.
        waiting: config.password.queue,
    }
}
