//! What the proxy is told.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::json;

use super::cookie::SetCookie;
use crate::keys::cache::Known;

/// The headers that tell a service who asks. Nobody but us sets them.
pub const IDENTITY: [&str; 5] = [
    "x-auth-subject",
    "x-auth-session",
    "x-auth-client",
    "x-auth-scopes",
    "x-auth-roles",
];

/// The answer of [`super::Gateway::check`].
#[derive(Debug)]
pub enum Decision {
    /// The request goes on.
    Admitted(Admitted),
    /// It does not.
    Refused(Refusal),
}

/// A request that goes on, and how it is changed.
#[derive(Debug)]
pub struct Admitted {
    /// The token.
    pub known: Arc<Known>,
    /// What `Cookie` becomes; empty: it goes. None: it stays as it is.
    pub cookie: Option<String>,
    /// Whether `authorization` goes.
    pub strip_authorization: bool,
    /// Headers to remove because they look like those that tell who asks.
    pub lookalikes: Vec<String>,
    /// For the browser.
    pub set_cookies: Vec<SetCookie>,
}

impl Admitted {
    /// Whether the token alone decides what is told: no cookie and no lookalike is among the request's headers. Such a
    /// request showed a bearer token, so `strip_authorization` is the same for all of them.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.cookie.is_none() && self.lookalikes.is_empty() && self.set_cookies.is_empty()
    }

    /// The headers that tell who asks, in the order of [`IDENTITY`]; none: there must be no such header.
    #[must_use]
    pub fn identity(&self) -> [Option<Cow<'_, str>>; 5] {
        let claims = &self.known.claims;
        let list = |names: &[String]| (!names.is_empty()).then(|| Cow::Owned(names.join(" ")));
        [
            Some(Cow::Borrowed(claims.sub.as_str())),
            claims.sid.map(|session| Cow::Owned(session.to_string())),
            Some(Cow::Borrowed(claims.client_id.as_str())),
            list(&claims.scope),
            list(&claims.roles),
        ]
    }
}

/// Why a request does not go on.
#[derive(Debug)]
pub struct Refusal {
    pub(super) reason: RefusalReason,
    /// The audience that the route wants.
    pub(super) realm: String,
    /// For the browser.
    pub set_cookies: Vec<SetCookie>,
}

/// The reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RefusalReason {
    /// It shows no token.
    NoToken,
    /// What it shows is no good.
    BadToken(&'static str),
    /// The token lacks one of these.
    MissingScope(Vec<String>),
    /// It changes something, by cookie, and does not come from a page of ours.
    CrossSite,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.reason {
            RefusalReason::NoToken | RefusalReason::BadToken(_) => 401,
            RefusalReason::MissingScope(_) | RefusalReason::CrossSite => 403,
        }
    }

    /// `WWW-Authenticate` (RFC 6750 §3).
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        match &self.reason {
            RefusalReason::NoToken => Some(format!("Bearer realm={}", quoted(&self.realm))),
            RefusalReason::BadToken(description) => Some(format!(
                "Bearer error=\"invalid_token\", error_description={}",
                quoted(description)
            )),
            RefusalReason::MissingScope(scopes) => Some(format!(
                "Bearer error=\"insufficient_scope\", scope={}",
                quoted(&scopes.join(" "))
            )),
            RefusalReason::CrossSite => None,
        }
    }

    /// The body, as JSON.
    #[must_use]
    pub fn body(&self) -> String {
        let (error, description) = match &self.reason {
            RefusalReason::NoToken => ("unauthenticated", "an access token is needed"),
            RefusalReason::BadToken(description) => ("invalid_token", *description),
            RefusalReason::MissingScope(_) => ("insufficient_scope", "the access token lacks a scope"),
            RefusalReason::CrossSite => ("cross_site", "this must be asked from a page of the same origin"),
        };
        let mut body = json!({"error": error, "error_description": description});
        if let RefusalReason::MissingScope(scopes) = &self.reason {
            body["scope"] = scopes.join(" ").into();
        }
        body.to_string()
    }
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reason: RefusalReason) -> (u16, String, String) {
        let refusal = Refusal {
            reason,
            realm: "a\"p\\i".to_owned(),
            set_cookies: Vec::new(),
        };
        (
            refusal.status(),
            refusal.challenge().unwrap_or_default(),
            refusal.body(),
        )
    }

    #[test]
    fn a_refusal_is_that_of_rfc_6750() {
        let (status, challenge, body) = told(RefusalReason::NoToken);
        assert_eq!((status, challenge.as_str()), (401, r#"Bearer realm="a\"p\\i""#));
        assert!(body.contains("unauthenticated"));

        let (status, challenge, body) = told(RefusalReason::BadToken("it expired"));
        assert_eq!(
            (status, challenge.as_str()),
            (401, r#"Bearer error="invalid_token", error_description="it expired""#)
        );
        assert_eq!(body, r#"{"error":"invalid_token","error_description":"it expired"}"#);

        let scopes = vec!["read".to_owned(), "write".to_owned()];
        let (status, challenge, body) = told(RefusalReason::MissingScope(scopes));
        assert_eq!(
            (status, challenge.as_str()),
            (403, r#"Bearer error="insufficient_scope", scope="read write""#)
        );
        assert!(body.contains(r#""scope":"read write""#), "{body}");

        let (status, challenge, _) = told(RefusalReason::CrossSite);
        assert_eq!((status, challenge.as_str()), (403, ""));
    }
}
