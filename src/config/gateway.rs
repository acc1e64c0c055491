//! `[gateway]`: external authorization for proxies, and cookies.

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::{list, optional, secret};
use crate::model::ClientId;
use crate::secret::SecretText;

/// `[gateway]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option by itself")]
pub struct Gateway {
    /// Envoy's `Check` on the gRPC port.
    pub ext_authz: bool,
    /// Tokens from cookies, and their renewal.
    pub cookies: bool,
    /// Name of the access cookie.
    pub access_cookie: String,
    /// Name of the refresh cookie.
    pub refresh_cookie: String,
    /// Of both.
    #[serde(deserialize_with = "super::values::keyword")]
    pub same_site: SameSite,
    /// The one client whose tokens are let through.
    #[serde(default, deserialize_with = "optional")]
    pub client_id: Option<String>,
    /// Where the route names none.
    #[serde(default, deserialize_with = "optional")]
    pub audience: Option<String>,
    /// Required where the route names none.
    #[serde(deserialize_with = "list")]
    pub scopes: Vec<String>,
    /// `/authorize` on the HTTP port.
    pub forward_auth: bool,
    /// What the proxy must send.
    #[serde(default, with = "secret")]
    pub forward_auth_secret: Option<SecretText>,
    /// Whether the token stays out of the request that goes on.
    pub strip_token: bool,
}

/// The cookie attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Never sent from other sites.
    Strict,
    /// Sent when a link from another site is followed.
    Lax,
}

impl Gateway {
    /// `anonymous_validate`: whether anyone may validate anyway.
    pub(super) fn check(&self, anonymous_validate: bool) -> Checked {
        for (key, name) in [
            ("gateway.access_cookie", &self.access_cookie),
            ("gateway.refresh_cookie", &self.refresh_cookie),
        ] {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(token) {
                return Err(ConfigError::at(key, "must be a cookie name (RFC 6265 §4.1.1)"));
            }
        }
        if self.access_cookie == self.refresh_cookie {
            return Err(ConfigError::at(
                "gateway.refresh_cookie",
                "must differ from gateway.access_cookie",
            ));
        }
        if let Some(client) = &self.client_id
            && ClientId::parse(client, "").is_err()
        {
            return Err(ConfigError::at("gateway.client_id", "is no client's id"));
        }
        if let Some(audience) = &self.audience {
            check::name("gateway.audience", audience)?;
        }
        for scope in &self.scopes {
            check::name("gateway.scopes", scope)?;
        }
        if self.cookies && !self.ext_authz && !self.forward_auth {
            let problem = "needs gateway.ext_authz or gateway.forward_auth: nothing else reads cookies";
            return Err(ConfigError::at("gateway.cookies", problem));
        }
        if let Some(secret) = &self.forward_auth_secret {
            let length = secret.expose().len();
            if !(16..=256).contains(&length) || !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
                let problem = "must be 16 to 256 visible ASCII characters; make one with `openssl rand -hex 32`";
                return Err(ConfigError::at("gateway.forward_auth_secret", problem));
            }
        }
        if self.forward_auth && self.forward_auth_secret.is_none() && !anonymous_validate {
            let problem = "needs gateway.forward_auth_secret, or countersign:validate in server.anonymous_scopes";
            return Err(ConfigError::at("gateway.forward_auth", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    /// What is wrong with these options; nothing if they are taken.
    fn problem(pairs: &[(&str, &str)]) -> String {
        let name = |key: &str| format!("COUNTERSIGN_{}", key.replace('.', "__").to_uppercase());
        let loaded = Config::load(&Layers {
            environment: pairs
                .iter()
                .map(|(key, value)| (name(key).into(), value.into()))
                .collect(),
            ..Layers::default()
        });
        loaded.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (key, value) in [
            ("gateway.access_cookie", "a b"),
            ("gateway.refresh_cookie", "__Host-cs_at"),
            ("gateway.same_site", "none"),
            ("gateway.client_id", "no such id"),
            ("gateway.audience", "two words"),
            ("gateway.forward_auth_secret", "short"),
        ] {
            assert!(!problem(&[(key, value)]).is_empty(), "{key}={value}");
        }
        let on = ("gateway.forward_auth", "true");
        let closed = ("server.anonymous_scopes", "countersign:refresh");
        let secret = ("gateway.forward_auth_secret", "0123456789abcdef");
        assert!(problem(&[on, closed]).contains("needs gateway.forward_auth_secret"));
        assert_eq!(problem(&[on]), "", "anybody may validate here");
        assert_eq!(problem(&[on, closed, secret]), "");
        let unread = [("gateway.cookies", "true"), ("gateway.ext_authz", "false")];
        assert!(problem(&unread).contains("nothing else reads cookies"));
    }
}
