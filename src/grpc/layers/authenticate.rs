//! Authentication of callers, by the bearer token of the request or the certificate of the connection.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};

use crate::listener::Peer;
use crate::model::bearer::Authorization;
use crate::model::{Caller, Error, ErrorKind, Result};

/// The credentials of a request.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// Access token of the `authorization` header, if any. It takes precedence over the certificate.
    pub bearer: Option<&'a str>,
    /// Peer of the connection, with the names of its certificate.
    pub peer: &'a Peer,
}

/// Authenticates callers.
///
/// * Without a bearer token and without a mapped certificate, the result is the anonymous caller with its scopes.
/// * An invalid bearer token MUST give `CALLER_UNAUTHENTICATED`, even where the anonymous caller would be admitted.
/// * A failure (revocations not loaded, a store down) MUST give an error, never the anonymous caller.
/// * The caller's `origin` names only the actor; the pipeline adds address and request id.
pub trait Authenticator: Send + Sync + 'static {
    /// Authenticates the caller with these credentials.
    fn authenticate(&self, credential: Credential<'_>) -> Authentication;

    /// The caller of methods with [`Access::Anyone`](crate::grpc::policy::Access::Anyone). Credentials are not looked
    /// at there, so that neither an expired token nor a broken store keeps a caller from such a method.
    fn anonymous(&self) -> Arc<Caller>;
}

/// The result of an [`Authenticator`].
pub enum Authentication {
    /// Known from memory. This is the usual case; the speed of every call depends on it.
    Ready(Result<Arc<Caller>>),
    /// A store has to be read first.
    Pending(BoxFuture<'static, Result<Arc<Caller>>>),
}

/// The bearer token of a request, if it has one.
///
/// # Errors
/// `CALLER_UNAUTHENTICATED` for several `authorization` headers, another scheme, or a malformed token.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>> {
    let refused = |message: &'static str| Err(Error::new(ErrorKind::CallerUnauthenticated, message));
    let values = headers.get_all(header::AUTHORIZATION).iter();
    match Authorization::from_values(values.map(HeaderValue::as_bytes)) {
        Authorization::Absent => Ok(None),
        Authorization::Bearer(token) => Ok(Some(token)),
        Authorization::Repeated => refused("authorization: given more than once"),
        Authorization::OtherScheme | Authorization::Malformed => {
            refused("authorization: must be \"Bearer\" and an access token")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (header::AUTHORIZATION, value)).collect()
    }

    #[test]
    fn one_bearer_or_none() {
        assert_eq!(bearer_token(&headers(&[])).unwrap(), None);
        assert_eq!(bearer_token(&headers(&["Bearer abc"])).unwrap(), Some("abc"));
        assert_eq!(bearer_token(&headers(&["bearer  abc"])).unwrap(), Some("abc"));
        for bad in [
            &["Bearer abc", "Bearer abc"][..],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer   "],
            &["abc"],
            &[""],
        ] {
            let error = bearer_token(&headers(bad)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::CallerUnauthenticated, "{bad:?}");
            assert!(!error.to_string().contains("abc"));
        }
    }
}
