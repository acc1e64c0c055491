//! What comes out of forms, and whether it comes from ours.

use std::collections::HashMap;

use axum::extract::Request;
use countersign::gateway::origin::RequestOrigin;
use http::HeaderMap;

/// Whether a request may count on cookies: it only reads, or comes from our own pages.
pub(crate) fn is_trusted(request: &Request) -> bool {
    let text = |name: &str| text(request.headers(), name);
    let provenance = RequestOrigin {
        method: Some(request.method().as_str()),
        host: text("host"),
        fetch_site: text("sec-fetch-site"),
        origin: text("origin"),
        upgrade: text("upgrade").is_some(),
    };
    provenance.is_trusted()
}

/// A header, if it is there and text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The fields of a form.
pub(crate) struct Form(HashMap<String, String>);

impl Form {
    pub(crate) fn of(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field; empty if it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}
