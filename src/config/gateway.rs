//! `[gateway]`: external authorization for proxies, and cookies.

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::{list, optional, secret};
use crate::model::ClientId;
use crate::model::text::is_login_page;
use crate::secret::SecretText;

/// The section `[gateway]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option by itself")]
pub struct Gateway {
    /// Whether the gRPC port serves Envoy's `Check`.
    pub ext_authz: bool,
    /// Whether tokens are read from cookies and renewed.
    pub cookies: bool,
    /// The name of the access cookie.
    pub access_cookie: String,
    /// The name of the refresh cookie.
    pub refresh_cookie: String,
    /// The attribute `SameSite` of both cookies.
    #[serde(deserialize_with = "super::values::keyword")]
    pub same_site: SameSite,
    /// The only client whose tokens are accepted; unset means every client.
    #[serde(default, deserialize_with = "optional")]
    pub client_id: Option<String>,
    /// The required audience if the route names none.
    #[serde(default, deserialize_with = "optional")]
    pub audience: Option<String>,
    /// The required scopes if the route names none.
    #[serde(deserialize_with = "list")]
    pub scopes: Vec<String>,
    /// The login page of routes that name none.
    #[serde(default, deserialize_with = "optional")]
    pub login_url: Option<String>,
    /// The attributes of users that services get in headers.
    #[serde(deserialize_with = "list")]
    pub attributes: Vec<String>,
    /// Whether the HTTP port serves `/authorize`.
    pub forward_auth: bool,
    /// The secret that the proxy must send.
    #[serde(default, with = "secret")]
    pub forward_auth_secret: Option<SecretText>,
    /// How many proxies add an address to `X-Forwarded-For` before `/authorize` is asked.
    pub trusted_hops: usize,
    /// Whether the token is removed from the forwarded request.
    pub strip_token: bool,
}

/// The cookie attribute `SameSite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Not sent with requests from other sites.
    Strict,
    /// Also sent when the user follows a link from another site.
    Lax,
}

impl Gateway {
    /// `anonymous_validate`: whether anonymous callers hold `countersign:validate`.
    pub(super) fn check(&self, anonymous_validate: bool) -> CheckResult {
        for (key, name) in [
            ("gateway.access_cookie", &self.access_cookie),
            ("gateway.refresh_cookie", &self.refresh_cookie),
        ] {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
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
            return Err(ConfigError::at(
                "gateway.client_id",
                "must be a client id: 3-64 of a-z 0-9 . _ -",
            ));
        }
        if let Some(audience) = &self.audience {
            check::name("gateway.audience", audience)?;
        }
        for scope in &self.scopes {
            check::name("gateway.scopes", scope)?;
        }
        if self.login_url.as_deref().is_some_and(|login| !is_login_page(login)) {
            return Err(ConfigError::at(
                "gateway.login_url",
                "must be a path that begins with a slash, or an http:// or https:// URL",
            ));
        }
        check_attributes(&self.attributes)?;
        check::number("gateway.trusted_hops", self.trusted_hops, 1..=16)?;
        if self.cookies && !self.ext_authz && !self.forward_auth {
            let problem = "needs gateway.ext_authz or gateway.forward_auth: nothing else reads cookies";
            return Err(ConfigError::at("gateway.cookies", problem));
        }
        self.check_secret()?;
        if self.forward_auth && self.forward_auth_secret.is_none() && !anonymous_validate {
            let problem = "needs gateway.forward_auth_secret, or countersign:validate in server.anonymous_scopes";
            return Err(ConfigError::at("gateway.forward_auth", problem));
        }
        Ok(())
    }

    /// Checks `gateway.forward_auth_secret`.
    ///
    /// # Errors
    /// Names the option.
    pub fn check_secret(&self) -> CheckResult {
        let Some(secret) = &self.forward_auth_secret else {
            return Ok(());
        };
        let mut values = secret.expose().split_ascii_whitespace().peekable();
        let is_some = values.peek().is_some();
        let is_good =
            |value: &str| (16..=256).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
        if is_some && values.all(is_good) {
            return Ok(());
        }
        let problem = "must be 16 to 256 visible ASCII characters, or several such values with line ends between them; make one with `openssl rand -hex 32`";
        Err(ConfigError::at("gateway.forward_auth_secret", problem))
    }
}

/// The names in `x-auth-…` that are taken.
const IDENTITY: [&str; 6] = ["subject", "session", "client", "scopes", "roles", "username"];

/// The most attributes in headers; a token has at most 1 KiB of attributes.
const MAX_ATTRIBUTES: usize = 16;

/// Each attribute has a header of its own.
fn check_attributes(attributes: &[String]) -> CheckResult {
    let problem = |problem: &str| Err(ConfigError::at("gateway.attributes", problem));
    let header = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    if attributes.len() > MAX_ATTRIBUTES {
        return problem("must be at most 16 names");
    }
    for (at, name) in attributes.iter().enumerate() {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_allowed) {
            return problem("must be names of 1 to 64 letters, digits, `_` and `-`");
        }
        let is_taken = IDENTITY.contains(&header(name).as_str());
        if is_taken || attributes[..at].iter().any(|other| header(other) == header(name)) {
            return problem(
                "two headers would have the same name; `_` counts as `-`, and subject, session, client, scopes, \
                            roles and username are taken",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    /// The error of these options; empty if they are valid.
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
    fn invalid_options_are_refused() {
        for (key, value) in [
            ("gateway.access_cookie", "a b"),
            ("gateway.refresh_cookie", "__Host-cs_at"),
            ("gateway.same_site", "none"),
            ("gateway.client_id", "no such id"),
            ("gateway.audience", "two words"),
            ("gateway.forward_auth_secret", "short"),
            ("gateway.login_url", "login"),
            ("gateway.login_url", "//evil.example"),
            ("gateway.attributes", "a b"),
            ("gateway.attributes", "Subject"),
            ("gateway.attributes", "legacy_id,legacy-id"),
            ("gateway.trusted_hops", "0"),
            ("gateway.trusted_hops", "17"),
        ] {
            assert!(!problem(&[(key, value)]).is_empty(), "{key}={value}");
        }
        let good = [
            ("gateway.login_url", "/login"),
            ("gateway.attributes", "legacy_id,Tenant"),
        ];
        assert_eq!(problem(&good), "");
        let on = ("gateway.forward_auth", "true");
        let closed = ("server.anonymous_scopes", "countersign:refresh");
        let secret = ("gateway.forward_auth_secret", "0123456789abcdef");
        assert!(problem(&[on, closed]).contains("needs gateway.forward_auth_secret"));
        assert_eq!(problem(&[on]), "", "anonymous callers may validate");
        assert_eq!(problem(&[on, closed, secret]), "");
        let unread = [("gateway.cookies", "true"), ("gateway.ext_authz", "false")];
        assert!(problem(&unread).contains("nothing else reads cookies"));
    }
}
