//! Which credential of a proxied request counts.

use super::cookie::{CookieNames, Cookies, DuplicateCookie, SetCookie};
use super::decision::RefusalReason;
use super::request::ProxiedRequest;
use crate::model::bearer::Authorization;

/// The credential that decides about a request.
#[derive(Clone, Copy)]
pub(super) enum PresentedCredential<'a> {
    Bearer(&'a str),
    Cookies(Cookies<'a>),
    Unusable(Unusable),
}

/// Why a request has no credential that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Absent,
    /// `authorization` looks like a bearer token, and is none.
    Malformed,
    /// Another site may have caused the request, so its cookies are not used.
    CrossSite,
    Duplicate(DuplicateCookie),
}

impl<'a> PresentedCredential<'a> {
    /// The credential that counts: the bearer token, else our cookies. With an invalid bearer token, cookies are not
    /// read. `names` is `None` if cookies are not read at all.
    pub(super) fn find(request: &'a ProxiedRequest<'_>, names: Option<&CookieNames>) -> Self {
        match request.authorization() {
            Authorization::Bearer(token) => return Self::Bearer(token),
            Authorization::Malformed | Authorization::Repeated => return Self::Unusable(Unusable::Malformed),
            // Another scheme is for the service behind the proxy.
            Authorization::Absent | Authorization::OtherScheme => {}
        }
        let cookies = names.map_or(Ok(Cookies::default()), |names| names.read(request.cookie()));
        match cookies {
            Err(duplicate) => Self::Unusable(Unusable::Duplicate(duplicate)),
            Ok(cookies) if cookies.access().or(cookies.refresh()).is_none() => Self::Unusable(Unusable::Absent),
            Ok(_) if !request.origin().is_trusted() => Self::Unusable(Unusable::CrossSite),
            Ok(cookies) => Self::Cookies(cookies),
        }
    }

    /// Whether it is a bearer token, or an attempt at one. Such a caller is told of every refusal by its status.
    pub(super) fn is_bearer(&self) -> bool {
        matches!(self, Self::Bearer(_) | Self::Unusable(Unusable::Malformed))
    }
}

impl Unusable {
    /// Why the request is refused.
    pub(super) fn reason(self) -> RefusalReason {
        match self {
            Self::Absent => RefusalReason::NoToken,
            Self::Malformed => RefusalReason::BadToken("authorization must hold one access token"),
            Self::CrossSite => RefusalReason::CrossSite,
            Self::Duplicate(_) => RefusalReason::BadToken("a cookie was given more than once"),
        }
    }

    /// The cookies to delete in the browser, which would send the same ones for ever.
    pub(super) fn cleared(self, request: &ProxiedRequest<'_>, names: Option<&CookieNames>) -> Vec<SetCookie> {
        match (self, names) {
            (Self::Duplicate(duplicate), Some(names)) => {
                names.clear_duplicates(duplicate, request.host(), request.path())
            }
            _ => Vec::new(),
        }
    }
}
