//! The rules for Envoy's `CheckRequest`, which is read without the generated code.
//!
//! An input is the encoded message. The generated code reads it too, and both must find the same request.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use countersign::gateway::{ProxiedRequest, Route, parse_address};
use countersign::grpc::convert::check_request::EncodedCheckRequest;
use countersign::model::Error;
use countersign::proto::envoy::config::core::v3::address::Address as Kind;
use countersign::proto::envoy::config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress};
use countersign::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use countersign::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use prost::Message as _;

use super::target::Target;

/// The properties of requests of Envoy.
pub(crate) const TARGET: Target = Target {
    name: "check_request",
    inputs: 30_000,
    seeds,
    check,
};

const SETTINGS: [&str; 6] = ["audience", "scopes", "roles", "optional", "streaming", "login"];

fn message(headers: &[(&str, &str)], settings: &[(&str, &str)]) -> CheckRequest {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let socket = SocketAddress {
        address: "192.0.2.1".to_owned(),
    };
    let raw = HeaderValue {
        key: "origin".to_owned(),
        value: String::new(),
        raw_value: b"https://\xff".to_vec(),
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: Some(Address {
                    address: Some(Kind::SocketAddress(socket)),
                }),
            }),
            request: Some(Request {
                http: Some(HttpRequest {
                    method: "GET".to_owned(),
                    path: "/a?b".to_owned(),
                    host: "app.example".to_owned(),
                    headers: owned(headers),
                    header_map: (headers.len() > 2).then(|| HeaderMap { headers: vec![raw] }),
                }),
            }),
            context_extensions: owned(settings),
        }),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let all: Vec<(&str, &str)> = SETTINGS
        .into_iter()
        .zip(["api", "read write", "admin", "true", "false", "/login"])
        .collect();
    let messages = [
        message(&[("authorization", "Bearer a.b.c")], &[]),
        message(
            &[
                ("cookie", "__Host-cs_at=a; b=c"),
                ("accept", "*/*"),
                ("x_auth_subject", "r"),
            ],
            &all,
        ),
        message(&[], &all[3..5]),
        message(&[("origin", "https://app.example")], &all[5..]),
        message(&[], &[("roles", "")]),
        message(&[], &[("rolse", "admin")]),
        CheckRequest {
            attributes: Some(AttributeContext::default()),
        },
    ];
    messages.iter().map(CheckRequest::encode_to_vec).collect()
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    let encoded = EncodedCheckRequest::new(Bytes::copy_from_slice(input));
    let is_read = encoded.read().is_ok();
    if let Ok(message) = encoded.decode() {
        // Written anew, because the generated code does not check the type of all fields.
        let again = EncodedCheckRequest::new(message.encode_to_vec().into());
        compare(&again.read(), &Fields::of(&message));
    }
    is_read
}

/// The fields that are used, from the generated message.
#[derive(Default)]
struct Fields<'a> {
    http: Option<&'a HttpRequest>,
    source: &'a str,
    settings: BTreeMap<&'a str, &'a str>,
}

impl<'a> Fields<'a> {
    fn of(message: &'a CheckRequest) -> Self {
        let Some(attributes) = &message.attributes else {
            return Self::default();
        };
        let address = attributes.source.as_ref().and_then(|peer| peer.address.as_ref());
        let source = match address.and_then(|address| address.address.as_ref()) {
            Some(Kind::SocketAddress(socket)) => socket.address.as_str(),
            None => "",
        };
        let settings = &attributes.context_extensions;
        Self {
            http: attributes.request.as_ref().and_then(|request| request.http.as_ref()),
            source,
            settings: settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
        }
    }

    fn setting(&self, name: &str) -> &'a str {
        self.settings.get(name).copied().unwrap_or_default()
    }

    /// Whether the settings of the route are valid.
    fn is_valid(&self) -> bool {
        let flag = |name: &str| matches!(self.setting(name), "" | "true" | "false");
        let login = self.setting("login");
        let is_page = ["/", "http://", "https://"]
            .iter()
            .any(|start| login.starts_with(start));
        self.http.is_some()
            && self.settings.keys().all(|name| SETTINGS.contains(name))
            && flag("optional")
            && flag("streaming")
            && self.settings.get("roles").is_none_or(|roles| !roles.trim().is_empty())
            && (login.is_empty() || is_page)
    }
}

/// Compares the result with the fields.
fn compare(read: &Result<(ProxiedRequest<'_>, Route<'_>), Error>, fields: &Fields<'_>) {
    let Ok((request, route)) = read else {
        // A login page must be plain text besides.
        assert!(
            !fields.is_valid() || !fields.setting("login").is_empty(),
            "refused: {read:?}"
        );
        return;
    };
    assert!(fields.is_valid(), "an invalid route is read");
    let http = fields.http.unwrap();
    assert_eq!(
        (route.audience, route.scopes, route.roles, route.login),
        (
            fields.setting("audience"),
            fields.setting("scopes"),
            fields.setting("roles"),
            fields.setting("login")
        )
    );
    assert_eq!(
        (route.optional, route.streaming),
        (
            fields.setting("optional") == "true",
            fields.setting("streaming") == "true"
        )
    );
    let mut headers: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for (name, value) in &http.headers {
        headers.push((name, Cow::Borrowed(value)));
    }
    for header in http.header_map.iter().flat_map(|map| &map.headers) {
        let value = if header.raw_value.is_empty() {
            Cow::Borrowed(header.value.as_str())
        } else {
            String::from_utf8_lossy(&header.raw_value)
        };
        headers.push((&header.key, value));
    }
    let address = parse_address(fields.source);
    let expected = ProxiedRequest::new(&http.method, &http.host, &http.path, address, headers);
    assert_eq!(format!("{request:?}"), format!("{expected:?}"));
    assert_eq!(request.address(), address);
    // The map has no order.
    let sorted = |request: &ProxiedRequest<'_>| {
        let mut cookies: Vec<String> = request.cookie().split("; ").map(str::to_owned).collect();
        let mut lookalikes: Vec<String> = request.lookalikes().iter().map(|name| (*name).to_owned()).collect();
        cookies.sort();
        lookalikes.sort();
        (cookies, lookalikes)
    };
    assert_eq!(sorted(request), sorted(&expected));
}
