use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::proto::envoy::config::core::v3::address::Address as Kind;
use crate::proto::envoy::config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress};
use crate::proto::envoy::service::auth::v3::AttributeContext;
use crate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z-]{1,12}", "\\PC{0,300}"]
}

prop_compose! {
    fn header()(key in word(), value in word(), raw_value in vec(any::<u8>(), 0..4)) -> HeaderValue {
        HeaderValue { key, value, raw_value }
    }
}

prop_compose! {
    fn http()(
        method in word(),
        path in word(),
        host in word(),
        headers in btree_map(word(), word(), 0..12),
        more in option::of(vec(header(), 0..4)),
    ) -> HttpRequest {
        HttpRequest { method, path, host, headers, header_map: more.map(|headers| HeaderMap { headers }) }
    }
}

prop_compose! {
    fn message()(
        source in option::of(word()),
        http in option::of(option::of(http())),
        context_extensions in btree_map(
            prop_oneof!["audience", "scopes", "roles", "optional", "streaming", "login", "[a-z]{0,9}"],
            word(),
            0..6,
        ),
    ) -> CheckRequest {
        let socket = |address| Address { address: Some(Kind::SocketAddress(SocketAddress { address })) };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: source.map(|source| Peer { address: Some(socket(source)) }),
                request: http.map(|http| Request { http }),
                context_extensions,
            }),
        }
    }
}

fn read(bytes: &[u8]) -> Option<CheckRequestFields<'_>> {
    let mut fields = CheckRequestFields::default();
    fields.request(bytes).is_ok().then_some(fields)
}

proptest! {
    /// The fields have the values that the generated code reads.
    #[test]
    fn the_fields_are_those_of_the_message(message in message()) {
        let bytes = message.encode_to_vec();
        let fields = read(&bytes).unwrap();
        let attributes = message.attributes.unwrap();
        let http = attributes.request.and_then(|request| request.http);
        prop_assert!(fields.has_attributes && fields.has_http == http.is_some());
        let http = http.unwrap_or_default();
        prop_assert_eq!((fields.method, fields.host, fields.path), (&*http.method, &*http.host, &*http.path));
        let address = attributes.source.and_then(|peer| peer.address).and_then(|address| address.address);
        let source = address.map_or_else(String::new, |Kind::SocketAddress(socket)| socket.address);
        prop_assert_eq!(fields.source, source);
        let more = http.header_map.unwrap_or_default().headers;
        let more = more.into_iter().map(|HeaderValue { key, value, raw_value }| {
            let raw = String::from_utf8_lossy(&raw_value).into_owned();
            (key, if raw.is_empty() { value } else { raw })
        });
        let all: Vec<(String, String)> = http.headers.into_iter().chain(more).collect();
        let found: Vec<(String, String)> =
            fields.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
        prop_assert_eq!(found, all);
        let route = |key| attributes.context_extensions.get(key).map_or("", String::as_str);
        let expected = [
            route("audience"), route("scopes"), route("roles"), route("optional"), route("streaming"), route("login"),
        ];
        let read = [fields.audience, fields.scopes, fields.roles, fields.optional, fields.streaming, fields.login];
        prop_assert_eq!(read, expected);
        let known = ["audience", "scopes", "roles", "optional", "streaming", "login"];
        let unknown = attributes.context_extensions.keys().any(|key| !known.contains(&key.as_str()));
        prop_assert_eq!(fields.unknown_setting.is_some(), unknown);
    }

    /// A truncated message is refused exactly where the generated code refuses it.
    #[test]
    fn a_truncated_message_is_refused(message in message()) {
        let bytes = message.encode_to_vec();
        for end in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..end]).is_some(), CheckRequest::decode(&bytes[..end]).is_ok(), "{}", end);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

/// Fields with other numbers and wire types are skipped, as for a message of a later version.
#[test]
fn unknown_fields_are_skipped() {
    // 15: a varint, 16: a group with a field in it, 17: 4 bytes, 18: 8 bytes, 1: attributes, empty.
    let bytes = [
        0x78, 0x96, 0x01, 0x83, 0x01, 0x08, 0x01, 0x84, 0x01, 0x8d, 0x01, 1, 2, 3, 4, 0x91, 0x01, 1, 2, 3, 4, 5, 6, 7,
        8, 0x0a, 0x00,
    ];
    assert!(CheckRequest::decode(&bytes[..]).unwrap().attributes.is_some());
    assert!(read(&bytes).unwrap().has_attributes);
}

#[test]
fn invalid_utf_8_is_refused() {
    // attributes.request.http.method
    let bytes = [0x0a, 0x07, 0x22, 0x05, 0x12, 0x03, 0x12, 0x01, 0xff];
    assert!(CheckRequest::decode(&bytes[..]).is_err());
    assert!(read(&bytes).is_none());
}

#[test]
fn debug_shows_no_header() {
    let shown = format!("{:?}", EncodedCheckRequest::new(Bytes::from_static(b"canary")));
    assert_eq!(shown, "EncodedCheckRequest(6)");
}
