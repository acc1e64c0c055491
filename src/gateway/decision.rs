//! The decision on a proxied request, and what the proxy must do with it.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::json;

use super::cookie::SetCookie;
use crate::keys::verified::VerifiedToken;

/// The identity headers, which tell the service behind the proxy about the caller. A client cannot set them: the proxy
/// overwrites or removes each. Other headers of the form `x-auth-…` do not reach the service at all.
pub const IDENTITY: [&str; 5] = [
    "x-auth-subject",
    "x-auth-session",
    "x-auth-client",
    "x-auth-scopes",
    "x-auth-roles",
];

/// The result of [`super::Gateway::check`].
#[derive(Debug)]
pub enum Decision {
    /// The request goes on to the service.
    Admitted(Admitted),
    /// The request is refused.
    Refused(Refusal),
}

/// How the proxy must change an admitted request.
#[derive(Debug)]
pub struct Admitted {
    /// The verified token.
    pub token: Arc<VerifiedToken>,
    /// New value of `Cookie`; empty removes the header, `None` leaves it as it is.
    pub cookie: Option<String>,
    /// Whether `authorization` is removed.
    pub strip_authorization: bool,
    /// Headers to remove because a service could take them for those of [`IDENTITY`].
    pub lookalikes: Vec<String>,
    /// Cookies to set in the browser.
    pub set_cookies: Vec<SetCookie>,
}

impl Admitted {
    /// Whether the response depends on the token alone: the request has no cookie of ours and no lookalike header. Such
    /// a request has a bearer token, so `strip_authorization` is the same for all of them.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.cookie.is_none() && self.lookalikes.is_empty() && self.set_cookies.is_empty()
    }

    /// Values of the identity headers, in the order of [`IDENTITY`]; `None` where the header must be absent.
    #[must_use]
    pub fn identity(&self) -> [Option<Cow<'_, str>>; 5] {
        let claims = &self.token.claims;
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

/// A refused request.
#[derive(Debug)]
pub struct Refusal {
    pub(super) reason: RefusalReason,
    /// The audience that the route demands.
    pub(super) realm: String,
    /// Cookies to set in the browser.
    pub set_cookies: Vec<SetCookie>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RefusalReason {
    /// It has no token.
    NoToken,
    /// Its token is not valid, for this reason.
    BadToken(&'static str),
    /// Its token lacks one of these scopes.
    MissingScope(Vec<String>),
    /// It has cookies, may change something, and does not come from a page of the same origin.
    CrossSite,
}

impl Refusal {
    /// HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.reason {
            RefusalReason::NoToken | RefusalReason::BadToken(_) => 401,
            RefusalReason::MissingScope(_) | RefusalReason::CrossSite => 403,
        }
    }

    /// Value of `WWW-Authenticate` (RFC 6750 §3), if any.
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

    /// Body of the response, in JSON.
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

/// A quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(reason: RefusalReason) -> (u16, String, String) {
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
    fn a_refusal_has_the_challenge_of_rfc_6750() {
        let (status, challenge, body) = response(RefusalReason::NoToken);
        assert_eq!((status, challenge.as_str()), (401, r#"Bearer realm="a\"p\\i""#));
        assert!(body.contains("unauthenticated"));

        let (status, challenge, body) = response(RefusalReason::BadToken("it expired"));
        assert_eq!(
            (status, challenge.as_str()),
            (401, r#"Bearer error="invalid_token", error_description="it expired""#)
        );
        assert_eq!(body, r#"{"error":"invalid_token","error_description":"it expired"}"#);

        let scopes = vec!["read".to_owned(), "write".to_owned()];
        let (status, challenge, body) = response(RefusalReason::MissingScope(scopes));
        assert_eq!(
            (status, challenge.as_str()),
            (403, r#"Bearer error="insufficient_scope", scope="read write""#)
        );
        assert!(body.contains(r#""scope":"read write""#), "{body}");

        let (status, challenge, _) = response(RefusalReason::CrossSite);
        assert_eq!((status, challenge.as_str()), (403, ""));
    }
}
