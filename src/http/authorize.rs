//! `/authorize`: external authorization for proxies that ask over plain HTTP, before they let a request through (nginx
//! `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`).
//!
//! The proxy sends the request's own headers on, tells its method and host in `X-Forwarded-Method` and
//! `X-Forwarded-Host`, and what the route wants in the query: `?audience=api&scopes=read+write&streaming=true`. The answer
//! is 200 with headers for the service behind (`X-Auth-…`, `Cookie`) and for the browser (`Set-Cookie`), a refusal, or 503.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::json;

use crate::gateway::cookie::SetCookie;
use crate::gateway::{Admitted, Decision, Gateway, IDENTITY, ProxiedRequest, Refusal, Renewal, Route};
use crate::model::audit::Origin;
use crate::model::{Caller, ErrorKind, Identity, Result};
use crate::secret::{SecretText, same};
use crate::token::Tokens;

/// By which the proxy proves that it is the proxy.
const SECRET: HeaderName = HeaderName::from_static("x-forward-auth-secret");
const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLIENT: HeaderName = HeaderName::from_static("x-forwarded-for");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Each `Set-Cookie` once more by a name of its own, for proxies that copy a header by its name and only one of them. Not
/// with a token in a refusal, which some hand on as it is: scripts may read every header but `Set-Cookie`.
const EACH_COOKIE: [HeaderName; 2] = [
    HeaderName::from_static("x-set-access-cookie"),
    HeaderName::from_static("x-set-refresh-cookie"),
];

/// The most renewals at once; more could not be done before the proxies give up.
const MAX_RENEWALS: usize = 256;

/// What `/authorize` needs.
#[derive(Debug)]
pub struct ForwardAuth {
    /// The rule.
    pub gateway: Arc<Gateway<Tokens>>,
    /// By which cookies are renewed.
    pub tokens: Arc<Tokens>,
    /// What the proxy must send; none: anybody may ask.
    pub secret: Option<SecretText>,
    /// Whether cookies are renewed for whoever asks.
    pub renews: bool,
    /// How long an answer may take.
    pub deadline: Duration,
    /// How many renewals are under way.
    pub renewals: AtomicUsize,
}

pub(super) async fn authorize(State(auth): State<Arc<ForwardAuth>>, uri: Uri, headers: HeaderMap) -> Response {
    let answer = if auth.is_proxy(&headers) {
        match parse_query(uri.query().unwrap_or_default()) {
            Ok(parse_query) => auth.answer(&parse_query, &headers).await,
            Err(why) => refuse(StatusCode::BAD_REQUEST, "invalid_request", why),
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
        same(given, secret.expose().as_bytes())
    }

    async fn answer(&self, parse_query: &RouteQuery<'_>, headers: &HeaderMap) -> Response {
        let text = |name: HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let address = text(CLIENT).split(',').next().unwrap_or_default().trim();
        let all = headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
        let asked = ProxiedRequest::new(text(METHOD), text(HOST), address, all);
        let route = Route {
            audience: &parse_query.audience,
            scopes: &parse_query.scopes,
            streaming: parse_query.streaming,
        };
        let renewer = || self.renewer(address);
        match tokio::time::timeout(self.deadline, self.gateway.check(&asked, route, &renewer)).await {
            Ok(Ok(Decision::Admitted(admitted))) => {
                // Whole, where there is nothing of ours in it: a proxy may take its absence for an empty one.
                let cookie = admitted.cookie.as_deref().unwrap_or(asked.cookie());
                admit(&admitted, self.gateway.reads_cookies().then_some(cookie))
            }
            Ok(Ok(Decision::Refused(refusal))) => deny(&refusal),
            Ok(Err(error)) => {
                tracing::warn!(%error, "/authorize could not be answered");
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

    fn renewer(&self, address: &str) -> Result<Option<Renewal<RenewalPermit<'_>>>> {
        if !self.renews {
            return Ok(None);
        }
        let pass = RenewalPermit(&self.renewals);
        if self.renewals.fetch_add(1, Ordering::Relaxed) >= MAX_RENEWALS {
            return Err(ErrorKind::Overloaded.into());
        }
        let caller = Caller {
            identity: Identity::Anonymous,
            scopes: Vec::new(),
            origin: Origin {
                actor: "forward-auth".to_owned(),
                ip_address: address.to_owned(),
                ..Origin::default()
            },
        };
        let tokens = self.tokens.clone();
        Ok(Some(Renewal { tokens, caller, pass }))
    }
}

/// One renewal under way.
struct RenewalPermit<'a>(&'a AtomicUsize);

impl Drop for RenewalPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the route wants, as the proxy's configuration says in the query.
#[derive(Default)]
struct RouteQuery<'a> {
    audience: Cow<'a, str>,
    scopes: Cow<'a, str>,
    streaming: bool,
}

/// A word that is not known is refused: a slip of the pen must not open a route.
fn parse_query(query: &str) -> Result<RouteQuery<'_>, &'static str> {
    let mut parse_query = RouteQuery::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*key {
            "audience" => &mut parse_query.audience,
            "scopes" => &mut parse_query.scopes,
            "streaming" if value == "true" || value == "false" => {
                parse_query.streaming = value == "true";
                continue;
            }
            _ => return Err("the query takes audience, scopes and streaming (true or false)"),
        };
        if !place.is_empty() {
            return Err("the query names something twice");
        }
        *place = value;
    }
    Ok(parse_query)
}

fn admit(admitted: &Admitted, cookie: Option<&str>) -> Response {
    let mut answer = StatusCode::OK.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    for (name, value) in IDENTITY.into_iter().zip(admitted.identity()) {
        // Empty rather than absent: a proxy that copies it then overwrites what the client sent.
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

fn set_cookies(headers: &mut HeaderMap, cookies: &[SetCookie], by_name_too: fn(&SetCookie) -> bool) {
    for (name, cookie) in EACH_COOKIE.into_iter().zip(cookies) {
        let mut value = text(cookie.expose());
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value.clone());
        if by_name_too(cookie) {
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

/// What no header can hold is left out whole: it must not come through in part.
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
    fn the_route_says_what_it_wants_and_nothing_else() {
        let asked = parse_query("audience=api&scopes=read+write%3Aall&streaming=true").unwrap();
        assert_eq!(
            (&*asked.audience, &*asked.scopes, asked.streaming),
            ("api", "read write:all", true)
        );
        assert!(parse_query("").unwrap().audience.is_empty());
        for bad in ["scope=read", "audience=a&audience=b", "streaming=yes", "x", "Scopes=a"] {
            assert!(parse_query(bad).is_err(), "{bad}");
        }
    }
}
