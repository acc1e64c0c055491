//! The rules for every text that is presented as an access token.
//!
//! The first byte of an input gives its kind: a token as received, or a header and a payload that the test signs with a
//! valid key, as a faulty issuer would, to reach the code behind the signature check.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::UnixMillis;
use countersign::keys::jwk;
use countersign::keys::signing::SigningKey;
use countersign::keys::verify::{Policy, claimed, verify, verify_any_age};
use countersign::keys::verifying::VerifyingKeys;
use countersign::model::{Claims, InactiveReason};
use serde_json::{Value, json};

use super::input::{SEPARATOR, split};
use super::target::Target;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.test";
const WIRE: u8 = 0;
const SIGNED: u8 = 1;

/// The properties of access tokens.
pub(crate) const TARGET: Target = Target {
    name: "jwt",
    inputs: 8_000,
    seeds,
    check,
};

struct Fixture {
    pair: Ed25519KeyPair,
    kid: String,
    keys: VerifyingKeys,
    policy: Policy,
    valid: Vec<String>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let public = jwk::parse_public(&json!({"kty": "OKP", "crv": "Ed25519", "x": x}).to_string()).unwrap();
    let kid = public.id().to_string();
    let others = [
        &include_bytes!("../vectors/pem/p256.pkcs8.pem")[..],
        include_bytes!("../vectors/pem/rsa2048.pkcs8.pem"),
    ]
    .map(|pem| SigningKey::import(pem).unwrap());
    let mut keys = VerifyingKeys::default();
    keys.insert(public, None);
    for other in &others {
        keys.insert(other.public().clone(), None);
    }
    let claims: Claims = serde_json::from_value(claims()).unwrap();
    let mut valid: Vec<String> = others.iter().map(|key| key.sign(&claims).unwrap()).collect();
    valid.push(signed(
        &pair,
        header(&kid).to_string().as_bytes(),
        self::claims().to_string().as_bytes(),
    ));
    let policy = Policy {
        issuer: ISSUER.to_owned(),
        leeway: Duration::from_secs(5),
    };
    Fixture {
        pair,
        kid,
        keys,
        policy,
        valid,
    }
});

fn header(kid: &str) -> Value {
    json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid})
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "0190b6a8-1111-7000-8000-000000000001", "aud": ["api"], "client_id": "web",
        "iat": NOW - 60, "exp": NOW + 840, "jti": "0190b6a8-2222-7000-8000-000000000002", "scope": "read write",
        "sid": "0190b6a8-3333-7000-8000-000000000003", "auth_time": NOW - 60, "roles": ["admin"],
        "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"}, "ext": {"team": {"name": "x"}},
    })
}

fn signed(pair: &Ed25519KeyPair, header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = pair.sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// Good tokens, every token of the published vectors, and the parts of a valid one.
fn seeds() -> Vec<Vec<u8>> {
    let fixture = &*FIXTURE;
    let mut seeds: Vec<Vec<u8>> = fixture
        .valid
        .iter()
        .map(|token| [&[WIRE], token.as_bytes()].concat())
        .collect();
    let parts = [header(&fixture.kid).to_string(), claims().to_string()];
    seeds.push([&[SIGNED], parts[0].as_bytes(), &[SEPARATOR], parts[1].as_bytes()].concat());
    for file in [
        include_str!("../vectors/wycheproof/json_web_signature_test.json"),
        include_str!("../vectors/wycheproof/json_web_crypto_test.json"),
        include_str!("../vectors/rfc/rfc7515.json"),
    ] {
        tokens(&serde_json::from_str(file).unwrap(), &mut seeds);
    }
    seeds
}

/// Collects every text of a document that could be a token.
fn tokens(document: &Value, into: &mut Vec<Vec<u8>>) {
    match document {
        Value::String(text) if text.matches('.').count() >= 2 && text.len() < 4096 => {
            into.push([&[WIRE], text.as_bytes()].concat());
        }
        Value::Array(list) => list.iter().for_each(|item| tokens(item, into)),
        Value::Object(members) => members.values().for_each(|item| tokens(item, into)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    let fixture = &*FIXTURE;
    match input.split_first() {
        Some((&SIGNED, parts)) => {
            let (header, payload) = split(parts);
            let token = signed(&fixture.pair, header, payload);
            let accepted = is_accepted(&token);
            if accepted {
                obeys_the_rules(header, payload);
            }
            accepted
        }
        Some((_, text)) => {
            let Ok(token) = std::str::from_utf8(text) else {
                return false;
            };
            let accepted = is_accepted(token);
            // Only the issuer can make a token, and each token has one spelling.
            assert!(
                !accepted || fixture.valid.iter().any(|valid| valid == token),
                "accepted, but not signed by the issuer"
            );
            accepted
        }
        None => false,
    }
}

/// Whether the token is accepted. Checks that the verdict is the same at every call, and right at every time.
fn is_accepted(token: &str) -> bool {
    let fixture = &*FIXTURE;
    let at = |secs: i64| verify(token, &fixture.keys, &fixture.policy, UnixMillis::from_secs(secs));
    let verdict = at(NOW);
    assert_eq!(verdict, at(NOW), "the verdict changed");
    let timeless = verify_any_age(token, &fixture.keys, &fixture.policy);
    match &verdict {
        Ok(verified) => {
            assert_eq!(timeless.as_ref(), Ok(&*verified.claims));
            assert_eq!(claimed(token).unwrap().key, verified.key_id);
            for wrong in [i64::MIN, 0, NOW - 24 * 3600, NOW + 24 * 3600 + 6, i64::MAX] {
                assert!(at(wrong).is_err(), "valid at the wrong time");
            }
            // Writing and reading the claims again loses nothing.
            let written = serde_json::to_vec(&*verified.claims).unwrap();
            let read: Claims = serde_json::from_slice(&written).unwrap();
            assert_eq!(read, *verified.claims);
        }
        Err(InactiveReason::NotYetValid | InactiveReason::Expired) => assert!(timeless.is_ok()),
        Err(reason) => {
            // A fault of the token itself is independent of the time.
            assert_eq!(timeless.as_ref(), Err(reason));
            for other in [i64::MIN, 0, i64::MAX] {
                assert_eq!(at(other).as_ref(), Err(reason));
            }
            assert!(token.len() <= 4096 || *reason == InactiveReason::Malformed);
        }
    }
    let without_keys = verify(
        token,
        &VerifyingKeys::default(),
        &fixture.policy,
        UnixMillis::from_secs(NOW),
    );
    assert!(without_keys.is_err(), "valid without a key");
    verdict.is_ok()
}

/// Checks the rules with another JSON parser: a signed input that was accepted must be a valid access token.
fn obeys_the_rules(header: &[u8], payload: &[u8]) {
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header["alg"], "EdDSA");
    let typ = header["typ"].as_str().unwrap().to_ascii_lowercase();
    assert!(["at+jwt", "application/at+jwt"].contains(&typ.as_str()), "{typ}");
    for forbidden in ["crit", "b64", "cty", "jku", "jwk", "x5u", "x5c"] {
        assert!(header.get(forbidden).is_none(), "{forbidden}");
    }
    let claims: Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(claims["iss"], ISSUER);
    for text in ["sub", "client_id", "jti"] {
        assert!(claims[text].as_str().is_some_and(|text| !text.is_empty()), "{text}");
    }
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!(exp > NOW - 5 && iat <= NOW + 5 && exp.checked_sub(iat).unwrap() <= 24 * 3600);
    assert!(claims["aud"].is_string() || claims["aud"].as_array().is_some_and(|list| !list.is_empty()));
    assert!(claims["epo"].is_object());
}
