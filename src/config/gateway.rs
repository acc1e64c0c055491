//! `[gateway]`: external authorization for proxies, and cookies.

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::{list, optional, secret};
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
    #[serde(deserialize_with = "super::values::word")]
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
        if let Some(audience) = &self.audience {
            check::name("gateway.audience", audience)?;
        }
        for scope in &self.scopes {
            check::name("gateway.scopes", scope)?;
        }
        if self.forward_auth && self.forward_auth_secret.is_none() && !anonymous_validate {
            let problem = "needs gateway.forward_auth_secret, or countersign:validate in server.anonymous_scopes";
            return Err(ConfigError::at("gateway.forward_auth", problem));
        }
        Ok(())
    }
}
