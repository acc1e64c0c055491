//! Who calls: the bearer token of a request, or the certificate of its connection.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, header};

use crate::listener::Peer;
use crate::model::{Caller, Error, ErrorKind, Result};

/// What a caller shows.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// The access token of `authorization: Bearer …`, if there is one: it counts before the certificate.
    pub bearer: Option<&'a str>,
    /// The connection's other end, with the names of its certificate.
    pub peer: &'a Peer,
}

/// Tells who calls.
///
/// * Without bearer and mapped certificate the answer is the anonymous caller, with whatever scopes that has.
/// * A bearer that is not good MUST be `CALLER_UNAUTHENTICATED`, even where an anonymous caller would do.
/// * If it cannot be told (revocations not loaded, a store down), the error says so; it is never the anonymous caller.
/// * The caller's `origin` names the actor alone: address and request id are added to it.
pub trait Authenticator: Send + Sync + 'static {
    /// Who shows this.
    fn authenticate(&self, credential: Credential<'_>) -> Authentication;

    /// The caller of a method that anyone may call: nobody is asked who they are there, so that neither a token that has
    /// expired nor a store that is down keeps anyone from it.
    fn anonymous(&self) -> Arc<Caller>;
}

/// The answer of an [`Authenticator`].
pub enum Authentication {
    /// Known from memory: the rule, on which the speed of every call depends.
    Ready(Result<Arc<Caller>>),
    /// A store has to be asked first.
    Pending(BoxFuture<'static, Result<Arc<Caller>>>),
}

/// The bearer token of a request (RFC 6750 §2.1), if there is one.
///
/// # Errors
/// `CALLER_UNAUTHENTICATED` for two of them, which a proxy may have read otherwise, and for other schemes.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let refused = |why: &'static str| Error::new(ErrorKind::CallerUnauthenticated, why);
    if values.next().is_some() {
        return Err(refused("authorization: given more than once"));
    }
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .map(|(scheme, token)| (scheme, token.trim_matches(' ')))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| Some(token))
        .ok_or_else(|| refused("authorization: must be \"Bearer\" and an access token"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (header::AUTHORIZATION, value)).collect()
    }

    #[test]
    fn one_bearer_or_none() {
        assert_eq!(bearer(&headers(&[])).unwrap(), None);
        assert_eq!(bearer(&headers(&["Bearer abc"])).unwrap(), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc"])).unwrap(), Some("abc"));
        for bad in [
            &["Bearer abc", "Bearer abc"][..],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer   "],
            &["abc"],
            &[""],
        ] {
            let error = bearer(&headers(bad)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::CallerUnauthenticated, "{bad:?}");
            assert!(!error.to_string().contains("abc"));
        }
    }
}
