//! Form fields, and the check that a request comes from a page of this site.

use std::collections::HashMap;

use axum::extract::Request;
use countersign::gateway::origin::RequestOrigin;
use http::HeaderMap;

/// Whether the cookies of a request may be used: it only reads, or comes from a page of this site.
pub(crate) fn is_trusted(request: &Request) -> bool {
    let text = |name: &str| text(request.headers(), name);
    let origin = RequestOrigin {
        method: Some(request.method().as_str()),
        host: text("host"),
        fetch_site: text("sec-fetch-site"),
        origin: text("origin"),
        upgrade: text("upgrade").is_some(),
    };
    origin.is_trusted()
}

/// The value of a header; `None` if it is absent or not text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The fields of a form.
pub(crate) struct Form(HashMap<String, String>);

impl Form {
    pub(crate) fn of(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    /// The value of a field; empty if it is absent.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}
