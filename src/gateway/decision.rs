//! The decision on a proxied request, and what the proxy must do with it.

use serde_json::json;

use super::cookie::SetCookie;
use super::identity::IdentityHeaders;
use crate::keys::verified::VerifiedToken;

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
    /// The headers about the caller.
    pub identity: IdentityHeaders,
    /// New value of `Cookie`; empty removes the header, `None` leaves it as it is.
    pub cookie: Option<String>,
    /// Whether `authorization` is removed.
    pub strip_authorization: bool,
    /// Headers to remove because a service could take them for identity headers.
    pub lookalikes: Vec<String>,
    /// Cookies to set in the browser.
    pub set_cookies: Vec<SetCookie>,
}

impl Admitted {
    /// The verified token if the response depends on it alone: the request has no cookie of ours and no lookalike header.
    /// Such a request has a bearer token, so `strip_authorization` is the same for all of them.
    #[must_use]
    pub fn plain_token(&self) -> Option<&VerifiedToken> {
        let is_plain = self.cookie.is_none() && self.lookalikes.is_empty() && self.set_cookies.is_empty();
        self.identity.token.as_deref().filter(|_| is_plain)
    }

    /// The verified token; `None` for a request that passes without a credential.
    #[must_use]
    pub fn token(&self) -> Option<&VerifiedToken> {
        self.identity.token.as_deref()
    }
}

/// A refused request.
#[derive(Debug)]
pub struct Refusal {
    pub(super) reason: RefusalReason,
    /// The audience that the route demands.
    pub(super) realm: String,
    /// The login page, if the browser is sent there.
    pub(super) location: Option<String>,
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
    /// Its user has none of the roles of the route.
    MissingRole,
    /// It has cookies, may change something, and does not come from a page of the same origin.
    CrossSite,
}

impl Refusal {
    /// HTTP status of the response: 401 or 403, or 303 if there is a [`Refusal::location`].
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.reason {
            RefusalReason::NoToken | RefusalReason::BadToken(_) if self.location.is_some() => 303,
            RefusalReason::NoToken | RefusalReason::BadToken(_) => 401,
            RefusalReason::MissingScope(_) | RefusalReason::MissingRole | RefusalReason::CrossSite => 403,
        }
    }

    /// Value of `Location`: the login page, if the browser is sent there.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The same with the status 401 in place of a redirect.
    #[must_use]
    pub fn without_redirect(self) -> Self {
        Self { location: None, ..self }
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
            RefusalReason::MissingRole | RefusalReason::CrossSite => None,
        }
    }

    /// Body of the response, in JSON.
    #[must_use]
    pub fn body(&self) -> String {
        let (error, description) = match &self.reason {
            RefusalReason::NoToken => ("unauthenticated", "an access token is needed"),
            RefusalReason::BadToken(description) => ("invalid_token", *description),
            RefusalReason::MissingScope(_) => ("insufficient_scope", "the access token lacks a scope"),
            RefusalReason::MissingRole => ("insufficient_role", "the user has none of the roles that are needed"),
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
            location: None,
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
        let (status, challenge, body) = response(RefusalReason::MissingRole);
        assert_eq!((status, challenge.as_str()), (403, ""));
        assert!(body.contains("insufficient_role"), "{body}");
    }
}
