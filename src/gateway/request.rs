//! The request that a proxy asks about, and what its route demands.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::identity::IDENTITY;
use super::origin::RequestOrigin;
use crate::model::bearer::Authorization;

/// A request that a proxy asks about, with its headers sorted by their meaning.
#[derive(Default)]
pub struct ProxiedRequest<'a> {
    method: Option<&'a str>,
    host: Option<&'a str>,
    /// Path and query; empty if the proxy did not send it.
    path: &'a str,
    authorization: AuthorizationHeaders<'a>,
    /// All `cookie` headers as one.
    cookie: Cow<'a, str>,
    fetch_site: Option<Cow<'a, str>>,
    origin: Option<Cow<'a, str>>,
    upgrade: bool,
    accept: Cow<'a, str>,
    fetch_mode: Option<Cow<'a, str>>,
    /// Whether it asks which methods another origin may use, as CORS preflights do.
    asks_for_method: bool,
    /// Headers that a service could take for identity headers, and that the proxy does not overwrite.
    lookalikes: Vec<&'a str>,
    user_agent: Cow<'a, str>,
    address: Option<IpAddr>,
}

impl<'a> ProxiedRequest<'a> {
    /// Reads a request. Header names may be in any case; each value is one item, in the order of the request. An empty
    /// `method`, `host` or `path` (with its query) means that the proxy did not send it. `address` is that of the client; see
    /// [`parse_address`].
    #[must_use]
    pub fn new(
        method: &'a str,
        host: &'a str,
        path: &'a str,
        address: Option<IpAddr>,
        headers: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>,
    ) -> Self {
        let non_empty = |text: &'a str| (!text.is_empty()).then_some(text);
        let mut request = Self {
            method: non_empty(method),
            host: non_empty(host),
            path,
            address,
            ..Self::default()
        };
        for (name, value) in headers {
            request.add_header(name, value);
        }
        request
    }

    fn add_header(&mut self, name: &'a str, value: Cow<'a, str>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("authorization") {
            self.authorization = match self.authorization {
                AuthorizationHeaders::Absent => AuthorizationHeaders::One(value),
                AuthorizationHeaders::One(_) | AuthorizationHeaders::Repeated => AuthorizationHeaders::Repeated,
            };
        } else if is("cookie") {
            // RFC 9113 §8.2.3: a client may spread its cookies over several headers.
            self.cookie = match std::mem::take(&mut self.cookie) {
                first if first.is_empty() => value,
                all => Cow::Owned(format!("{all}; {value}")),
            };
        } else if is("sec-fetch-site") {
            join(&mut self.fetch_site, value);
        } else if is("origin") {
            join(&mut self.origin, value);
        } else if is("upgrade") || is("sec-websocket-key") {
            // Proxies drop `upgrade`, a hop-by-hop header, from the request that they ask about; `sec-websocket-key`
            // stays.
            self.upgrade = true;
        } else if is("user-agent") {
            self.user_agent = value;
        } else if is("accept") {
            self.accept = value;
        } else if is("sec-fetch-mode") {
            join(&mut self.fetch_mode, value);
        } else if is("access-control-request-method") {
            self.asks_for_method = true;
        } else if is_lookalike(name) {
            self.lookalikes.push(name);
        }
    }

    /// What the request says about the page that made it.
    pub(super) fn origin(&self) -> RequestOrigin<'_> {
        RequestOrigin {
            method: self.method,
            host: self.host,
            fetch_site: self.fetch_site.as_deref(),
            origin: self.origin.as_deref(),
            upgrade: self.upgrade,
        }
    }

    /// Whether a browser loads a page with it, so that its answer may be a redirect to another page. Scripts and API clients
    /// need the status.
    pub(super) fn is_navigation(&self) -> bool {
        let navigates = self.fetch_mode.as_ref().is_none_or(|mode| mode == "navigate");
        let loads = matches!(self.method, Some("GET" | "HEAD")) && !self.upgrade;
        let has_credential = !matches!(self.authorization, AuthorizationHeaders::Absent);
        loads && navigates && !has_credential && self.accept.contains("text/html")
    }

    /// Whether it is a CORS preflight. A browser sends it without any credential before a script of another origin may send
    /// its request, and only the service knows the answer.
    pub(super) fn is_preflight(&self) -> bool {
        self.method == Some("OPTIONS") && self.origin.is_some() && self.asks_for_method && !self.upgrade
    }

    /// The host that the client called; empty if unknown.
    pub(super) fn host(&self) -> &str {
        self.host.unwrap_or_default()
    }

    /// Path and query; empty if unknown.
    pub(super) fn path(&self) -> &str {
        self.path
    }

    /// The value of `cookie`; empty without one.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The value of `authorization`.
    pub(super) fn authorization(&self) -> Authorization<'_> {
        match &self.authorization {
            AuthorizationHeaders::Absent => Authorization::Absent,
            AuthorizationHeaders::One(value) => Authorization::parse(value.as_bytes()),
            AuthorizationHeaders::Repeated => Authorization::Repeated,
        }
    }

    /// Names of headers that a service could take for identity headers, and that the proxy does not overwrite. Such a header
    /// must not reach the service.
    #[must_use]
    pub fn lookalikes(&self) -> &[&'a str] {
        &self.lookalikes
    }

    /// The value of `user-agent`; empty without one.
    pub(super) fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// The address of the client, as the proxy sees it.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl std::fmt::Debug for ProxiedRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxiedRequest")
            .field("method", &self.method)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The `authorization` headers of a request.
#[derive(Default)]
enum AuthorizationHeaders<'a> {
    #[default]
    Absent,
    One(Cow<'a, str>),
    Repeated,
}

/// What a route demands. Empty fields take the values of the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Route<'a> {
    /// The audience that the token must have.
    pub audience: &'a str,
    /// The scopes that the token must have, separated by spaces.
    pub scopes: &'a str,
    /// The roles of which the user must have one, separated by spaces. Empty: no role is needed.
    pub roles: &'a str,
    /// Whether a request without a credential passes too, without identity headers.
    pub optional: bool,
    /// Where users log in: a path, or an `http://` or `https://` URL.
    pub login: &'a str,
    /// Whether the response is a long stream. Cookies are not renewed then, because the headers with the new cookies
    /// might reach the browser late.
    pub streaming: bool,
}

/// Joins the values of a single-value header with a comma, so that a repeated header matches nothing.
fn join<'a>(joined: &mut Option<Cow<'a, str>>, value: Cow<'a, str>) {
    *joined = Some(match joined.take() {
        None => value,
        Some(first) => Cow::Owned(format!("{first}, {value}")),
    });
}

/// Whether a service could take `name` for an identity header that the proxy does not overwrite: every name of the form
/// `x-auth-…`, except those of [`IDENTITY`] themselves. Servers that map headers to environment variables, as CGI does,
/// cannot tell `_` from `-`, and some of them map other signs to `_` too. So every sign counts as `-`.
fn is_lookalike(name: &str) -> bool {
    const PREFIX: &[u8] = b"x-auth-";
    let same = |byte: u8, ours: u8| {
        if byte.is_ascii_alphanumeric() {
            byte.eq_ignore_ascii_case(&ours)
        } else {
            ours == b'-'
        }
    };
    let starts_so = name.len() >= PREFIX.len() && name.bytes().zip(PREFIX).all(|(byte, ours)| same(byte, *ours));
    starts_so && !IDENTITY.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// Reads the address of a client: an IP address, with or without a port. An IPv4 address that is mapped into IPv6 is
/// returned as the IPv4 address.
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let with_port = |text: &str| text.parse().ok().map(|address: SocketAddr| address.ip());
    let address = text.parse().ok().or_else(|| with_port(text))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = [(&'static str, &'static str)];

    fn with<'a>(method: &'a str, headers: &'a Headers) -> ProxiedRequest<'a> {
        let headers = headers.iter().map(|(name, value)| (*name, Cow::Borrowed(*value)));
        ProxiedRequest::new(method, "", "/", parse_address("192.0.2.1"), headers)
    }

    fn bearer(values: &'static Headers) -> String {
        match with("GET", values).authorization() {
            Authorization::Absent | Authorization::OtherScheme => "none".to_owned(),
            Authorization::Bearer(token) => token.to_owned(),
            Authorization::Malformed | Authorization::Repeated => "malformed".to_owned(),
        }
    }

    #[test]
    fn one_bearer_or_none() {
        assert_eq!(bearer(&[]), "none");
        assert_eq!(bearer(&[("authorization", "Bearer a.b-c_d")]), "a.b-c_d");
        assert_eq!(bearer(&[("authorization", "bEaReR  abc ")]), "abc");
        assert_eq!(bearer(&[("authorization", "Basic abc")]), "none");
        for malformed in [
            &[("authorization", "Bearer")] as &[_],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer a b")],
            &[("authorization", "Bearer a,Bearer b")],
            &[("authorization", "Bearer a"), ("authorization", "Basic b")],
        ] {
            assert_eq!(bearer(malformed), "malformed", "{malformed:?}");
        }
    }

    #[test]
    fn repeated_headers_are_joined_and_lookalikes_are_listed() {
        let headers: &Headers = &[
            ("cookie", "a=b"),
            ("Cookie", "c=d"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
            ("sec-websocket-key", "x"),
            ("x_auth_subject", "root"),
            ("x-auth-subject", "root"),
            ("X-Auth_Roles", "admin"),
            ("X-AUTH-ROLES", "overwritten"),
            ("x-auth-user", "root"),
            ("X.Auth.Scopes", "admin"),
            ("x-authorization", "fine"),
            ("x-auth", "fine"),
        ];
        let request = with("POST", headers);
        assert_eq!(request.cookie(), "a=b; c=d");
        assert!(!request.origin().is_trusted() && request.origin().upgrade);
        assert_eq!(
            request.lookalikes(),
            ["x_auth_subject", "X-Auth_Roles", "x-auth-user", "X.Auth.Scopes"]
        );
        assert_eq!((request.host, request.address()), (None, "192.0.2.1".parse().ok()));
    }

    #[test]
    fn a_navigation_reads_a_page_and_a_preflight_has_no_credential() {
        let page = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        let headers: &[&Headers] = &[&[page], &[page, ("sec-fetch-mode", "navigate")]];
        for headers in headers {
            assert!(with("GET", headers).is_navigation() && with("HEAD", headers).is_navigation());
            assert!(!with("POST", headers).is_navigation() && !with("", headers).is_navigation());
        }
        let headers: &[&Headers] = &[
            &[],
            &[("accept", "*/*")],
            &[("accept", "application/json")],
            &[page, ("sec-fetch-mode", "cors")],
            &[page, ("upgrade", "websocket")],
            &[page, ("authorization", "Bearer expired")],
            &[page, ("sec-fetch-mode", "navigate"), ("sec-fetch-mode", "cors")],
        ];
        for headers in headers {
            assert!(!with("GET", headers).is_navigation(), "{headers:?}");
        }
        let origin = ("origin", "https://spa.example");
        let asks = ("access-control-request-method", "PUT");
        assert!(with("OPTIONS", &[origin, asks]).is_preflight());
        assert!(!with("OPTIONS", &[origin]).is_preflight() && !with("OPTIONS", &[asks]).is_preflight());
        assert!(!with("GET", &[origin, asks]).is_preflight() && !with("", &[origin, asks]).is_preflight());
        assert!(!with("OPTIONS", &[origin, asks, ("upgrade", "websocket")]).is_preflight());
    }

    #[test]
    fn addresses_have_one_form() {
        for (text, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("2001:DB8:0::1", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("", None),
            ("unknown", None),
            ("192.0.2.1, 192.0.2.2", None),
            ("<script>", None),
        ] {
            let parsed = parse_address(text).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), address, "{text}");
        }
    }
}
