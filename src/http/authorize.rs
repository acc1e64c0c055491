//! `/authorize`: external authorization for proxies that ask over plain HTTP before they admit a request (nginx
//! `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`).
//!
//! The proxy sends the headers of the request, its method in `X-Forwarded-Method`, its host in `X-Forwarded-Host`, its path
//! and query in `X-Forwarded-Uri`, and what the route demands in the query: `?audience=api&scopes=read+write&streaming=true`.
//! The response is 200 with headers for the service behind the proxy (`X-Auth-…`, `Cookie`) and for the browser
//! (`Set-Cookie`), a refusal, or 503. Refusals are 401 and 403, or a redirect to the login page where the route or the
//! configuration names one. nginx turns every other status than 401 and 403 into 500, so it asks with `redirect=false`, and a
//! second time for the answer to the browser (`refused=true`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::json;
use tokio::time::Instant;

use super::route_query::RouteQuery;
use crate::clock::{Clock, Deadline};
use crate::gateway::cookie::SetCookie;
use crate::gateway::{Admitted, Decision, Gateway, ProxiedRequest, Refusal, Renewal, parse_address};
use crate::model::audit::Origin;
use crate::model::{Caller, ErrorKind, Identity, Result};
use crate::secret::SharedSecret;
use crate::token::{Refresher, ServiceValidator};

/// The shared secret that authenticates the proxy.
const SECRET: HeaderName = HeaderName::from_static("x-forward-auth-secret");
const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PATH: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// When a client may try again after an outage, in seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Headers that repeat each `Set-Cookie` under a name of its own, for proxies that can copy only one header of a name.
/// A refusal never repeats a token here: some proxies pass refusals to the browser unchanged, and scripts can read
/// every header except `Set-Cookie`.
const EACH_COOKIE: [HeaderName; 2] = [
    HeaderName::from_static("x-set-access-cookie"),
    HeaderName::from_static("x-set-refresh-cookie"),
];

const ANSWERS: &str = "countersign_forward_auth_total";
const UNKNOWN_PROXIES: &str = "countersign_forward_auth_unknown_proxies_total";
const SECONDS: &str = "countersign_forward_auth_seconds";

/// The values of the label `status`.
const STATUSES: [&str; 7] = ["200", "303", "400", "401", "403", "500", "503"];

/// The state of `/authorize`.
#[derive(Debug)]
pub struct ForwardAuth {
    /// Decides about requests.
    pub gateway: Arc<Gateway<ServiceValidator>>,
    /// Renews cookies.
    pub refresher: Arc<Refresher>,
    /// The secret that the proxy must send; `None` admits every caller of the port.
    pub secret: Option<SharedSecret>,
    /// Whether cookies are renewed.
    pub renews: bool,
    /// How many proxies add an address to `X-Forwarded-For`, the one that asks included.
    pub trusted_hops: usize,
    /// Time limit of a request.
    pub deadline: Duration,
    /// For the time that is left to a renewal.
    pub clock: Arc<dyn Clock>,
}

pub(super) async fn authorize(State(auth): State<Arc<ForwardAuth>>, uri: Uri, headers: HeaderMap) -> Response {
    let began = Instant::now();
    let answer = if auth.is_proxy(&headers) {
        match RouteQuery::parse(uri.query().unwrap_or_default()) {
            // Counted when the proxy asked for the first time.
            Ok(query) if query.refused => return auth.refused(&query, &headers),
            Ok(query) => auth.answer(&query, &headers).await,
            Err(description) => refuse(StatusCode::BAD_REQUEST, "invalid_request", description),
        }
    } else {
        metrics::counter!(UNKNOWN_PROXIES).increment(1);
        // No field tells where from: the address of the connection may be that of another proxy.
        tracing::warn!(
            code = StatusCode::FORBIDDEN.as_u16(),
            "a proxy may not ask /authorize: its x-forward-auth-secret is missing or is not gateway.forward_auth_secret"
        );
        refuse(
            StatusCode::FORBIDDEN,
            "unknown_proxy",
            "x-forward-auth-secret is missing or wrong",
        )
    };
    metrics::counter!(ANSWERS, "status" => status(answer.status())).increment(1);
    metrics::histogram!(SECONDS).record(began.elapsed());
    answer
}

/// Describes the metrics, and creates them with the value 0.
pub(super) fn describe() {
    metrics::describe_counter!(ANSWERS, "Answers of /authorize, by HTTP status.");
    metrics::describe_counter!(
        UNKNOWN_PROXIES,
        "Questions at /authorize without the right gateway.forward_auth_secret."
    );
    metrics::describe_histogram!(SECONDS, metrics::Unit::Seconds, "How long answers of /authorize took.");
    for status in STATUSES {
        metrics::counter!(ANSWERS, "status" => status).increment(0);
    }
    metrics::counter!(UNKNOWN_PROXIES).increment(0);
    // Made now, so that a rate sees its first sample.
    let _ = metrics::histogram!(SECONDS);
}

impl ForwardAuth {
    fn is_proxy(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.secret else { return true };
        let given = headers.get(SECRET).map_or(&b""[..], HeaderValue::as_bytes);
        secret.accepts(given)
    }

    fn request<'a>(&self, headers: &'a HeaderMap) -> ProxiedRequest<'a> {
        let all_headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
        let [method, host, path] = [METHOD, HOST, PATH].map(|name| single(headers, &name));
        ProxiedRequest::new(
            method,
            host,
            path,
            client_address(headers, self.trusted_hops),
            all_headers,
        )
    }

    async fn answer(&self, query: &RouteQuery<'_>, headers: &HeaderMap) -> Response {
        let request = self.request(headers);
        if !request.lookalikes().is_empty() {
            // Here, no answer makes every proxy remove a header of any name.
            let description =
                "headers of the form x-auth-... are set by the proxy alone; this request must not have them";
            return refuse(StatusCode::FORBIDDEN, "reserved_header", description);
        }
        let deadline = Deadline::after(self.clock.read(), self.deadline);
        let renewer = || self.renewer(request.address(), deadline);
        match tokio::time::timeout(self.deadline, self.gateway.check(&request, query.route(), &renewer)).await {
            Ok(Ok(Decision::Admitted(admitted))) => {
                // Sent even if it is unchanged: a proxy may copy a missing header as an empty one.
                let cookie = admitted.cookie.as_deref().unwrap_or(request.cookie());
                admit(&admitted, self.gateway.reads_cookies().then_some(cookie))
            }
            Ok(Ok(Decision::Refused(refusal))) if query.redirect => deny(&refusal),
            Ok(Ok(Decision::Refused(refusal))) => deny(&refusal.without_redirect()),
            Ok(Err(error)) => {
                // The loss of a store has lines of its own.
                if !error.is_logged {
                    tracing::warn!(%error, "cannot decide about a request at /authorize");
                }
                if error.kind == ErrorKind::Internal {
                    return refuse(StatusCode::INTERNAL_SERVER_ERROR, "unavailable", &error.message);
                }
                unavailable(&error.message, error.retry_after)
            }
            Err(_) => unavailable("the deadline passed", None),
        }
    }

    /// The answer to the browser for a request that was refused with 401 before. `WWW-Authenticate` is in the first answer.
    fn refused(&self, query: &RouteQuery<'_>, headers: &HeaderMap) -> Response {
        let mut answer = deny(&self.gateway.refused(&self.request(headers), query.route()));
        answer.headers_mut().remove(header::WWW_AUTHENTICATE);
        answer
    }

    /// The means to renew cookies. The gateway limits renewals in progress, so no further permit is needed.
    fn renewer(&self, address: Option<IpAddr>, deadline: Deadline) -> Option<Renewal<impl Fn() -> Result<()> + use<>>> {
        let caller = || Caller {
            identity: Identity::Anonymous,
            scopes: Vec::new(),
            origin: Origin {
                actor: "forward-auth".to_owned(),
                ip_address: address.map_or_else(String::new, |address| address.to_string()),
                ..Origin::default()
            },
        };
        self.renews.then(|| Renewal {
            refresher: Arc::clone(&self.refresher),
            caller: caller(),
            deadline,
            admit: || Ok(()),
        })
    }
}

/// The value of a header that has one; empty if it is absent, or repeated: nothing says which value the proxy set.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    }
}

/// The address of the client, from `X-Forwarded-For`. Each proxy adds an address at the right end, and a client can send
/// anything to the left of them. So the address is the one that is `trusted_hops` entries from the right, or the first one
/// if fewer proxies added theirs. `None` if that entry is no address.
fn client_address(headers: &HeaderMap, trusted_hops: usize) -> Option<IpAddr> {
    let values = headers.get_all(FORWARDED_FOR).iter();
    let entries = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let entries: Vec<&str> = entries.map(str::trim).collect();
    let index = entries.len().saturating_sub(trusted_hops);
    parse_address(entries.get(index)?)
}

fn admit(admitted: &Admitted, cookie: Option<&str>) -> Response {
    let mut answer = StatusCode::OK.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    for (name, value) in admitted.identity.all() {
        // Empty, not absent: a proxy that copies the header then overwrites what the client sent.
        if let Ok(name) = HeaderName::try_from(name) {
            headers.insert(name, text(value.as_deref().unwrap_or_default()));
        }
    }
    if let Some(cookie) = cookie {
        headers.insert(header::COOKIE, text(cookie));
    }
    set_cookies(headers, &admitted.set_cookies, |_| true);
    answer
}

fn deny(refusal: &Refusal) -> Response {
    let code = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let mut answer = (code, [(header::CONTENT_TYPE, JSON)], refusal.body()).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    if let Some(challenge) = refusal.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, text(&challenge));
    }
    if let Some(location) = refusal.location() {
        headers.insert(header::LOCATION, text(location));
    }
    set_cookies(headers, &refusal.set_cookies, SetCookie::clears);
    answer
}

fn set_cookies(headers: &mut HeaderMap, cookies: &[SetCookie], is_repeated: fn(&SetCookie) -> bool) {
    let mut names = EACH_COOKIE.into_iter();
    for cookie in cookies {
        let mut value = text(cookie.expose());
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value.clone());
        if let Some(name) = names.next().filter(|_| is_repeated(cookie)) {
            headers.insert(name, value);
        }
    }
}

fn refuse(code: StatusCode, error: &str, description: &str) -> Response {
    let body = json!({"error": error, "error_description": description}).to_string();
    (
        code,
        [(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NO_STORE)],
        body,
    )
        .into_response()
}

/// The answer while there is no answer about the credential: a client must not take an outage for a bad token.
fn unavailable(description: &str, retry_after: Option<Duration>) -> Response {
    let mut answer = refuse(StatusCode::SERVICE_UNAVAILABLE, "unavailable", description);
    let seconds = retry_after.unwrap_or(RETRY_AFTER).as_secs().max(1);
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// A header value; empty if `value` has characters that a header cannot hold, so that no part of it is sent.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

fn status(code: StatusCode) -> &'static str {
    let known = STATUSES.into_iter().find(|status| *status == code.as_str());
    known.unwrap_or("500")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_clients_address_is_counted_from_the_right() {
        for (values, hops, expected) in [
            (&[][..], 1, None),
            (&["192.0.2.1"], 1, Some("192.0.2.1")),
            (&["10.0.0.1, 192.0.2.1"], 1, Some("192.0.2.1")),
            (&["10.0.0.1", "10.0.0.2,192.0.2.1"], 1, Some("192.0.2.1")),
            (&["10.0.0.1, 192.0.2.1", "198.51.100.7"], 2, Some("192.0.2.1")),
            (&["192.0.2.1"], 2, Some("192.0.2.1")),
            (&["10.0.0.1, ::ffff:192.0.2.1"], 1, Some("192.0.2.1")),
            (&["10.0.0.1, [2001:DB8::1]:443"], 1, Some("2001:db8::1")),
            (&["10.0.0.1, nonsense"], 1, None),
            (&["10.0.0.1,"], 1, None),
        ] {
            let address = client_address(&with(&FORWARDED_FOR, values), hops);
            assert_eq!(address, expected.map(|text| text.parse().unwrap()), "{values:?} {hops}");
        }
    }

    #[test]
    fn a_repeated_method_is_no_method() {
        assert_eq!(single(&with(&METHOD, &["GET"]), &METHOD), "GET");
        assert_eq!(single(&with(&METHOD, &["GET", "POST"]), &METHOD), "");
        assert_eq!(single(&with(&METHOD, &[]), &METHOD), "");
    }
}
