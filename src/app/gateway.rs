//! The gateway's part of the configuration.

use crate::config::{self, Config};
use crate::gateway::cookie::{CookieNames, SameSite};
use crate::gateway::{AttributeHeader, GatewayConfig};
use crate::model::{ClientId, Result};

/// The configuration of the gateway of a server or an agent.
pub(super) fn gateway_config(config: &Config) -> Result<GatewayConfig> {
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
        login: gateway.login_url.clone(),
        attributes: gateway
            .attributes
            .iter()
            .map(|name| AttributeHeader::of(name))
            .collect(),
        strip_token: gateway.strip_token,
    })
}
