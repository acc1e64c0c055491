//! The rules for the `authorization` header, cookies and the other headers of a proxied request.
//!
//! The first byte of an input gives the kind: the bytes of one `authorization` header, or a request, whose first line is
//! `METHOD HOST PATH` and whose other lines are headers. Its second byte gives the route.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::gateway::cookie::{CookieNames, SetCookie};
use countersign::gateway::{
    Admitted, Decision, Gateway, GatewayConfig, IDENTITY, ProxiedRequest, Refusal, RenewSession, Route, ValidateToken,
};
use countersign::keys::jwk::parse_public;
use countersign::keys::verified::VerifiedToken;
use countersign::model::bearer::Authorization;
use countersign::model::{Error, ErrorKind, InactiveReason, Result, UserId};
use countersign::secret::SecretText;
use countersign::token::{RefreshRequest, Refreshed};
use countersign::validator::Validation;
use futures_util::FutureExt as _;
use http::HeaderValue;
use serde_json::{Value, json};

use super::clock::StoppedClock;
use super::target::Target;

/// The properties of credentials.
pub(crate) const TARGET: Target = Target {
    name: "credentials",
    inputs: 20_000,
    seeds,
    check,
};

const HEADER: u8 = 0;
const REQUEST: u8 = 1;

/// Bits of the byte that gives the route.
const OPTIONAL: u8 = 1;
const STREAMING: u8 = 2;
const OTHER_HOST: u8 = 4;

/// The only active token.
const GOOD: &str = "good.token";
const LOGIN: &str = "/login?lang=en";
const LOGIN_OF_OTHER_HOST: &str = "https://login.example/start";

/// A validator that knows one token.
struct OneToken(Arc<VerifiedToken>);

impl ValidateToken for OneToken {
    async fn validate(&self, access_token: &str, _: &str, _: &[String]) -> Result<Validation> {
        let is_good = access_token == GOOD;
        Ok(Validation {
            token: is_good.then(|| Arc::clone(&self.0)).ok_or(InactiveReason::Malformed),
            as_of: UnixMillis(0),
            cache_until: None,
        })
    }
}

/// No session can be renewed.
struct NoRenewal;

impl RenewSession for NoRenewal {
    async fn verify(&self, _: &SecretText) -> Result<UserId> {
        Err(ErrorKind::RefreshTokenMalformed.into())
    }

    async fn renew(&self, _: RefreshRequest) -> Result<Refreshed> {
        Err(Error::from(ErrorKind::RefreshTokenMalformed))
    }
}

static NAMES: LazyLock<CookieNames> = LazyLock::new(CookieNames::default);

static GATEWAY: LazyLock<Gateway<OneToken>> = LazyLock::new(|| {
    let claims = json!({
        "iss": "i", "sub": "s", "aud": ["api"], "client_id": "web", "iat": 1, "exp": 60,
        "jti": "0190b6a8-2222-7000-8000-000000000002", "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"},
    });
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let key = parse_public(key).unwrap().id().clone();
    let token = VerifiedToken::new(serde_json::from_value(claims).unwrap(), key, Duration::ZERO);
    let config = GatewayConfig {
        cookies: Some(NAMES.clone()),
        client: None,
        audience: String::new(),
        scopes: Vec::new(),
        login: Some(LOGIN.to_owned()),
        attributes: Arc::new([]),
        strip_token: true,
    };
    Gateway::new(
        Arc::new(OneToken(Arc::new(token))),
        Arc::new(StoppedClock(UnixMillis(0))),
        config,
    )
});

fn seeds() -> Vec<Vec<u8>> {
    let request = |route: u8, text: &str| [&[REQUEST, route], text.as_bytes()].concat();
    let page = "GET app.example /a/b?c=d\naccept: text/html\nsec-fetch-mode: navigate\n";
    vec![
        [&[HEADER], &b"Bearer good.token"[..]].concat(),
        request(
            0,
            &format!("GET app.example /\nauthorization: Bearer {GOOD}\nx_auth_subject: root\n"),
        ),
        request(
            0,
            &format!("GET app.example /\ncookie: a=b; __Host-cs_at={GOOD}\ncookie: __Host-cs_rt=r; c\n"),
        ),
        request(
            STREAMING,
            &format!("POST app.example /\ncookie: __Host-cs_at={GOOD}\norigin: https://app.example\n"),
        ),
        request(0, page),
        request(OTHER_HOST, page),
        request(
            0,
            "GET a.app.example:8443 /a/b\ncookie: __Host-cs_at=x; __Host-cs_at=y\n",
        ),
        request(OPTIONAL, "GET app.example /\nauthorization: Basic YWRh\n"),
        request(
            0,
            "OPTIONS app.example /\norigin: https://spa.example\naccess-control-request-method: PUT\n",
        ),
        request(
            0,
            &format!("POST app.example /\ncookie: __Host-cs_at={GOOD}\nsec-fetch-site: cross-site\n"),
        ),
    ]
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    match input {
        [HEADER, value @ ..] => header(value),
        [_, route, text @ ..] => std::str::from_utf8(text).is_ok_and(|text| request(*route, text)),
        _ => false,
    }
}

fn header(value: &[u8]) -> bool {
    match Authorization::parse(value) {
        Authorization::Bearer(token) => {
            assert!(is_token68(token), "{token:?}");
            let (scheme, rest) = value.split_at(6);
            assert!(scheme.eq_ignore_ascii_case(b"bearer"));
            let rest = std::str::from_utf8(rest).unwrap();
            assert!(rest.starts_with(' ') && rest.trim_matches(' ') == token);
            true
        }
        Authorization::OtherScheme => {
            assert!(!a_lenient_reader_finds_a_token(value), "passed on unverified");
            false
        }
        Authorization::Malformed => false,
        Authorization::Absent | Authorization::Repeated => panic!("there is one header"),
    }
}

fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(is_allowed)
}

/// Services split the header at white space, or search it for the scheme.
fn a_lenient_reader_finds_a_token(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value).to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_first = matches!(words[..], ["bearer", _, ..]);
    is_first
        || [" bearer ", ",bearer ", ";bearer ", "\tbearer "].iter().any(|scheme| {
            text.split_once(scheme)
                .is_some_and(|(_, rest)| !rest.trim_matches(' ').is_empty())
        })
}

/// A request, with its headers in order.
struct Parts<'a> {
    method: &'a str,
    host: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    fn values(&self, wanted: &str) -> Vec<&'a str> {
        let named = self
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| *value).collect()
    }

    /// The cookies as name and value.
    fn cookies(&self) -> Vec<(&'a str, &'a str)> {
        let pairs = self.values("cookie").into_iter().flat_map(|value| value.split(';'));
        pairs.map(cookie).filter(|pair| *pair != ("", "")).collect()
    }
}

fn cookie(pair: &str) -> (&str, &str) {
    let blanks = [' ', '\t'];
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name.trim_matches(blanks), value.trim_matches(blanks))
}

fn is_ours(name: &str) -> bool {
    [&NAMES.access, &NAMES.refresh].iter().any(|ours| name == *ours)
}

fn request(route: u8, text: &str) -> bool {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = first.splitn(3, ' ');
    let [method, host, path] = [(); 3].map(|()| words.next().unwrap_or_default());
    let lines = rest.lines().filter_map(|line| line.split_once(": "));
    let parts = Parts {
        method,
        host,
        headers: lines.collect(),
    };
    let headers = parts.headers.iter().map(|(name, value)| (*name, Cow::Borrowed(*value)));
    let proxied = ProxiedRequest::new(method, host, path, None, headers);
    let login = if route & OTHER_HOST == 0 {
        ""
    } else {
        LOGIN_OF_OTHER_HOST
    };
    let demanded = Route {
        optional: route & OPTIONAL != 0,
        streaming: route & STREAMING != 0,
        login,
        ..Route::default()
    };
    let decided = GATEWAY.check(&proxied, demanded, &|| Some(NoRenewal));
    match decided.now_or_never().unwrap().unwrap() {
        Decision::Admitted(admitted) => {
            is_rightly_admitted(&admitted, &parts, demanded.optional);
            are_cookies(&admitted.set_cookies, &parts);
            true
        }
        Decision::Refused(refusal) => {
            is_a_response(&refusal, if login.is_empty() { LOGIN } else { login });
            are_cookies(&refusal.set_cookies, &parts);
            false
        }
    }
}

fn is_rightly_admitted(admitted: &Admitted, parts: &Parts<'_>, optional: bool) {
    let authorization = parts.values("authorization");
    if admitted.token().is_some() {
        let is_bearer = matches!(authorization[..], [value] if header(value.as_bytes()));
        if is_bearer {
            let words: Vec<&str> = authorization[0].split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(words[1..], [GOOD]);
            assert!(admitted.strip_authorization);
        } else {
            comes_with_a_cookie(parts);
        }
    } else {
        let is_preflight = parts.method == "OPTIONS" && !parts.values("access-control-request-method").is_empty();
        assert!(optional || is_preflight, "admitted without a token");
        for value in authorization {
            assert!(
                !a_lenient_reader_finds_a_token(value.as_bytes()),
                "passed on unverified: {value:?}"
            );
        }
    }
    keeps_other_cookies(admitted.cookie.as_deref(), parts);
    for (name, _) in &parts.headers {
        let plain = name
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            .to_ascii_lowercase();
        if plain.starts_with("x-auth-") && !IDENTITY.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            assert!(
                admitted.lookalikes.iter().any(|removed| removed == name),
                "{name} is passed on"
            );
        }
    }
    for (name, value) in admitted.identity.all() {
        assert!(
            value.is_none_or(|value| HeaderValue::from_str(&value).is_ok()),
            "{name}"
        );
    }
}

/// The cookie is there once, and another site cannot have caused the request.
fn comes_with_a_cookie(parts: &Parts<'_>) {
    let cookies = parts.cookies();
    let ours: Vec<&str> = cookies
        .iter()
        .filter(|(name, _)| *name == NAMES.access)
        .map(|(_, value)| *value)
        .collect();
    assert!(
        matches!(ours[..], [value] if value.trim_matches('"') == GOOD),
        "{ours:?}"
    );
    let asks_for_socket = ["upgrade", "sec-websocket-key"]
        .iter()
        .any(|name| !parts.values(name).is_empty());
    if matches!(parts.method, "GET" | "HEAD" | "OPTIONS") && !asks_for_socket {
        return;
    }
    let sites = parts.values("sec-fetch-site");
    if sites.is_empty() {
        let origins = parts.values("origin");
        let [origin] = origins[..] else {
            panic!("changes something without an origin");
        };
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"))
            .unwrap();
        assert!(!host.is_empty() && host.eq_ignore_ascii_case(parts.host), "{origin}");
    } else {
        assert_eq!(sites, ["same-origin"]);
    }
}

/// The service gets none of our cookies, and all others in order.
fn keeps_other_cookies(changed: Option<&str>, parts: &Parts<'_>) {
    let before = parts.cookies();
    let others: Vec<_> = before.iter().copied().filter(|(name, _)| !is_ours(name)).collect();
    match changed {
        Some(header) => {
            let after: Vec<_> = header.split(';').map(cookie).filter(|pair| *pair != ("", "")).collect();
            assert_eq!(after, others);
        }
        None => assert_eq!(before, others, "one of our cookies is passed on"),
    }
}

/// Each is one header, for one of our cookies, with our attributes only.
fn are_cookies(cookies: &[SetCookie], parts: &Parts<'_>) {
    for cookie in cookies {
        let text = cookie.expose();
        assert!(HeaderValue::from_str(text).is_ok(), "{text:?}");
        let (pair, attributes) = text.split_once("; ").unwrap();
        assert!(is_ours(pair.split_once('=').unwrap().0), "{text:?}");
        for attribute in attributes.split(';') {
            let (name, value) = attribute.trim().split_once('=').unwrap_or((attribute.trim(), ""));
            match name {
                "Path" => assert!(value.starts_with('/')),
                "Domain" => assert!(parts.host.contains(value)),
                "Max-Age" => assert!(value.parse::<u64>().is_ok()),
                "SameSite" => assert_eq!(value, "Strict"),
                "HttpOnly" | "Secure" => assert_eq!(value, ""),
                other => panic!("the attribute {other:?} in {text:?}"),
            }
        }
    }
}

fn is_a_response(refusal: &Refusal, login: &str) {
    assert!(matches!(refusal.status(), 303 | 401 | 403));
    assert_eq!(refusal.status() == 303, refusal.location().is_some());
    if let Some(location) = refusal.location() {
        assert!(HeaderValue::from_str(location).is_ok(), "{location:?}");
        let rest = location
            .strip_prefix(login)
            .unwrap_or_else(|| panic!("sent to {location}"));
        if let Some(address) = rest.get(1..).and_then(|rest| rest.strip_prefix("return_to=")) {
            let is_encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._+%".contains(&byte);
            assert!(address.bytes().all(is_encoded), "{location}");
            assert!(
                !address.starts_with("%2F%2F") && !address.starts_with("%2F%5C"),
                "{location}"
            );
        } else {
            assert_eq!(rest, "");
        }
    }
    assert!(
        refusal
            .challenge()
            .is_none_or(|text| HeaderValue::from_str(&text).is_ok())
    );
    let body: Value = serde_json::from_str(&refusal.body()).unwrap();
    assert!(body["error"].is_string());
}
