//! The request that a proxy asks about, and what its route wants.

use std::borrow::Cow;

use super::decision::IDENTITY;
use super::origin::RequestOrigin;

/// A request that a proxy asks about, taken apart.
#[derive(Default)]
pub struct ProxiedRequest<'a> {
    method: Option<&'a str>,
    host: Option<&'a str>,
    authorization: Authorization<'a>,
    /// Every `cookie`, as one.
    cookie: Cow<'a, str>,
    fetch_site: Option<Cow<'a, str>>,
    origin: Option<Cow<'a, str>>,
    upgrade: bool,
    /// Headers that a careless reader would take for ours.
    lookalikes: Vec<&'a str>,
    user_agent: Cow<'a, str>,
    address: &'a str,
}

impl<'a> ProxiedRequest<'a> {
    /// The request with these headers: names in any case, every value for itself and in order. Empty texts are not told.
    #[must_use]
    pub fn new(
        method: &'a str,
        host: &'a str,
        address: &'a str,
        headers: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>,
    ) -> Self {
        let told = |text: &'a str| (!text.is_empty()).then_some(text);
        let mut asked = Self {
            method: told(method),
            host: told(host),
            address,
            ..Self::default()
        };
        for (name, value) in headers {
            asked.take(name, value);
        }
        asked
    }

    fn take(&mut self, name: &'a str, value: Cow<'a, str>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("authorization") {
            self.authorization = match self.authorization {
                Authorization::Absent => Authorization::One(value),
                Authorization::One(_) | Authorization::Many => Authorization::Many,
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
            // Proxies drop `upgrade` from what they ask with, as it is for one hop only; the other comes through.
            self.upgrade = true;
        } else if is("user-agent") {
            self.user_agent = value;
        } else if !IDENTITY.contains(&name) && IDENTITY.iter().any(|ours| is_like(name, ours)) {
            self.lookalikes.push(name);
        }
    }

    /// Where it comes from.
    pub(super) fn origin(&self) -> RequestOrigin<'_> {
        RequestOrigin {
            method: self.method,
            host: self.host,
            fetch_site: self.fetch_site.as_deref(),
            origin: self.origin.as_deref(),
            upgrade: self.upgrade,
        }
    }

    /// Its `Cookie`; may be empty.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What it shows in `authorization`.
    pub(super) fn bearer(&self) -> Bearer<'_> {
        let one = match &self.authorization {
            Authorization::Absent => return Bearer::None,
            Authorization::One(value) => value,
            Authorization::Many => return Bearer::Broken,
        };
        let (scheme, token) = one.split_once(' ').unwrap_or((one, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Bearer::None;
        }
        let token = token.trim_matches(' ');
        // Joined by a proxy, two of them hold a comma, which no token does (RFC 6750 §2.1). To the end in any case: that way
        // the compiler takes sixteen bytes at once.
        let apart = |byte| matches!(byte, 0..=b' ' | b',' | 0x7f..);
        if token.is_empty() || token.bytes().fold(false, |found, byte| found | apart(byte)) {
            Bearer::Broken
        } else {
            Bearer::Token(token)
        }
    }

    /// Its headers that a careless reader would take for those that tell who asks.
    pub(super) fn lookalikes(&self) -> &[&'a str] {
        &self.lookalikes
    }

    /// The browser.
    pub(super) fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Its address, as the proxy saw it.
    pub(super) fn address(&self) -> &str {
        self.address
    }
}

impl std::fmt::Debug for ProxiedRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("method", &self.method)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The values of `authorization`.
#[derive(Default)]
enum Authorization<'a> {
    #[default]
    Absent,
    One(Cow<'a, str>),
    /// Which of them counts cannot be told.
    Many,
}

/// What `authorization` shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer<'a> {
    /// No bearer token; perhaps another scheme, which is somebody else's.
    None,
    /// This one.
    Token(&'a str),
    /// Something that is none, or more than one.
    Broken,
}

/// What the route wants, where it wants anything of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Route<'a> {
    /// Whom the token must be for; empty: as configured.
    pub audience: &'a str,
    /// Space-separated; empty: as configured.
    pub scopes: &'a str,
    /// Whether the answer goes on and on: nothing is renewed, because its headers may be far from the browser for long.
    pub streaming: bool,
}

/// Two values of a header that has one are no value that anything is compared with.
fn join<'a>(place: &mut Option<Cow<'a, str>>, value: Cow<'a, str>) {
    *place = Some(match place.take() {
        None => value,
        Some(first) => Cow::Owned(format!("{first}, {value}")),
    });
}

/// CGI and its heirs cannot tell `_` from `-`.
fn is_like(name: &str, ours: &str) -> bool {
    let plain = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() == ours.len() && name.bytes().map(plain).eq(ours.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Given = [(&'static str, &'static str)];

    fn with(method: &'static str, headers: &'static Given) -> ProxiedRequest<'static> {
        let headers = headers.iter().map(|(name, value)| (*name, Cow::Borrowed(*value)));
        ProxiedRequest::new(method, "", "192.0.2.1", headers)
    }

    fn bearer(values: &'static Given) -> String {
        match with("GET", values).bearer() {
            Bearer::None => "none".to_owned(),
            Bearer::Token(token) => token.to_owned(),
            Bearer::Broken => "broken".to_owned(),
        }
    }

    #[test]
    fn one_bearer_or_none() {
        assert_eq!(bearer(&[]), "none");
        assert_eq!(bearer(&[("authorization", "Bearer a.b-c_d")]), "a.b-c_d");
        assert_eq!(bearer(&[("authorization", "bEaReR  abc ")]), "abc");
        assert_eq!(bearer(&[("authorization", "Basic abc")]), "none");
        for broken in [
            &[("authorization", "Bearer")] as &[_],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer a b")],
            &[("authorization", "Bearer a,Bearer b")],
            &[("authorization", "Bearer a"), ("authorization", "Basic b")],
        ] {
            assert_eq!(bearer(broken), "broken", "{broken:?}");
        }
    }

    #[test]
    fn what_comes_in_several_headers_is_one_request() {
        let given: &Given = &[
            ("cookie", "a=b"),
            ("Cookie", "c=d"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
            ("sec-websocket-key", "x"),
            ("x_auth_subject", "root"),
            ("x-auth-subject", "root"),
            ("X-Auth_Roles", "admin"),
            ("x-auth-subject2", "fine"),
        ];
        let asked = with("POST", given);
        assert_eq!(asked.cookie(), "a=b; c=d");
        assert!(!asked.origin().is_trusted() && asked.origin().upgrade);
        assert_eq!(asked.lookalikes(), ["x_auth_subject", "X-Auth_Roles"]);
        assert_eq!((asked.host, asked.address()), (None, "192.0.2.1"));
    }
}
