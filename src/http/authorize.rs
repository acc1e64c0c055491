//! `/authorize`: external authorization for proxies that ask over plain HTTP before they admit a request (nginx
//! `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`).
//!
//! The proxy sends the headers of the request, its method in `X-Forwarded-Method`, its host in `X-Forwarded-Host`, and
//! what the route demands in the query: `?audience=api&scopes=read+write&streaming=true`. The response is 200 with
//! headers for the service behind the proxy (`X-Auth-…`, `Cookie`) and for the browser (`Set-Cookie`), a refusal, or
//! 503. Refusals are 401 and 403 wherever possible: nginx turns every other status into 500.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::json;

use crate::gateway::cookie::SetCookie;
use crate::gateway::{Admitted, Decision, Gateway, IDENTITY, ProxiedRequest, Refusal, Renewal, Route, parse_address};
use crate::model::audit::Origin;
use crate::model::{Caller, ErrorKind, Identity, Result};
use crate::secret::SharedSecret;
use crate::token::{Refresher, ServiceValidator};

/// The shared secret that authenticates the proxy.
const SECRET: HeaderName = HeaderName::from_static("x-forward-auth-secret");
const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Headers that repeat each `Set-Cookie` under a name of its own, for proxies that can copy only one header of a name.
/// A refusal never repeats a token here: some proxies pass refusals to the browser unchanged, and scripts can read
/// every header except `Set-Cookie`.
const EACH_COOKIE: [HeaderName; 2] = [
    HeaderName::from_static("x-set-access-cookie"),
    HeaderName::from_static("x-set-refresh-cookie"),
];

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
}

pub(super) async fn authorize(State(auth): State<Arc<ForwardAuth>>, uri: Uri, headers: HeaderMap) -> Response {
    let answer = if auth.is_proxy(&headers) {
        match parse_query(uri.query().unwrap_or_default()) {
            Ok(route) => auth.answer(&route, &headers).await,
            Err(description) => refuse(StatusCode::BAD_REQUEST, "invalid_request", description),
        }
    } else {
        refuse(
            StatusCode::FORBIDDEN,
            "unknown_proxy",
            "x-forward-auth-secret is missing or wrong",
        )
    };
    metrics::counter!("countersign_forward_auth_total", "status" => status(answer.status())).increment(1);
    answer
}

impl ForwardAuth {
    fn is_proxy(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.secret else { return true };
        let given = headers.get(SECRET).map_or(&b""[..], HeaderValue::as_bytes);
        secret.accepts(given)
    }

    async fn answer(&self, route: &RouteQuery<'_>, headers: &HeaderMap) -> Response {
        let address = client_address(headers, self.trusted_hops);
        let all_headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
        let (method, host) = (single(headers, &METHOD), single(headers, &HOST));
        let request = ProxiedRequest::new(method, host, address, all_headers);
        if !request.lookalikes().is_empty() {
            // Here, no answer makes every proxy remove a header of any name.
            let description =
                "headers of the form x-auth-... are set by the proxy alone; this request must not have them";
            return refuse(StatusCode::FORBIDDEN, "reserved_header", description);
        }
        let route = Route {
            audience: &route.audience,
            scopes: &route.scopes,
            streaming: route.streaming,
        };
        let renewer = || self.renewer(address);
        match tokio::time::timeout(self.deadline, self.gateway.check(&request, route, &renewer)).await {
            Ok(Ok(Decision::Admitted(admitted))) => {
                // Sent even if it is unchanged: a proxy may copy a missing header as an empty one.
                let cookie = admitted.cookie.as_deref().unwrap_or(request.cookie());
                admit(&admitted, self.gateway.reads_cookies().then_some(cookie))
            }
            Ok(Ok(Decision::Refused(refusal))) => deny(&refusal),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot decide about a request at /authorize");
                let code = if error.kind == ErrorKind::Internal {
                    StatusCode::INTERNAL_SERVER_ERROR
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                refuse(code, "unavailable", &error.message)
            }
            Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the deadline passed"),
        }
    }

    /// The means to renew cookies. The gateway limits renewals in progress, so no further permit is needed.
    fn renewer(&self, address: Option<IpAddr>) -> Option<Renewal<impl Fn() -> Result<()> + use<>>> {
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

/// What the route demands, from the query that the proxy's configuration holds.
#[derive(Default)]
struct RouteQuery<'a> {
    audience: Cow<'a, str>,
    scopes: Cow<'a, str>,
    streaming: bool,
}

/// Reads the query. An unknown parameter is refused: a misspelt one must not leave a route open.
fn parse_query(query: &str) -> Result<RouteQuery<'_>, &'static str> {
    let mut route = RouteQuery::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let parameter = match &*key {
            "audience" => &mut route.audience,
            "scopes" => &mut route.scopes,
            "streaming" if value == "true" || value == "false" => {
                route.streaming = value == "true";
                continue;
            }
            _ => return Err("the query takes audience, scopes and streaming (true or false)"),
        };
        if !parameter.is_empty() {
            return Err("the query names something twice");
        }
        *parameter = value;
    }
    Ok(route)
}

fn admit(admitted: &Admitted, cookie: Option<&str>) -> Response {
    let mut answer = StatusCode::OK.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    for (name, value) in IDENTITY.into_iter().zip(admitted.identity()) {
        // Empty, not absent: a proxy that copies the header then overwrites what the client sent.
        headers.insert(
            HeaderName::from_static(name),
            text(value.as_deref().unwrap_or_default()),
        );
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
    set_cookies(headers, &refusal.set_cookies, SetCookie::clears);
    answer
}

fn set_cookies(headers: &mut HeaderMap, cookies: &[SetCookie], is_repeated: fn(&SetCookie) -> bool) {
    for (name, cookie) in EACH_COOKIE.into_iter().zip(cookies) {
        let mut value = text(cookie.expose());
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value.clone());
        if is_repeated(cookie) {
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

/// A header value; empty if `value` has characters that a header cannot hold, so that no part of it is sent.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

fn status(code: StatusCode) -> &'static str {
    match code.as_u16() {
        200 => "200",
        400 => "400",
        401 => "401",
        403 => "403",
        503 => "503",
        _ => "500",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_takes_its_three_parameters_and_no_others() {
        let route = parse_query("audience=api&scopes=read+write%3Aall&streaming=true").unwrap();
        assert_eq!(
            (&*route.audience, &*route.scopes, route.streaming),
            ("api", "read write:all", true)
        );
        assert!(parse_query("").unwrap().audience.is_empty());
        for bad in ["scope=read", "audience=a&audience=b", "streaming=yes", "x", "Scopes=a"] {
            assert!(parse_query(bad).is_err(), "{bad}");
        }
    }

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
