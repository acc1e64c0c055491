//! The rules for keys of others: JWK sets, single public JWKs, and private keys to import, as PEM or JWK.
//!
//! The first byte of an input gives its kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::keys::jwk::{parse_public, parse_set};
use countersign::keys::public::PublicKey;
use countersign::keys::signing::SigningKey;
use countersign::keys::verify::{Policy, verify_any_age};
use countersign::keys::verifying::VerifyingKeys;
use countersign::model::{Algorithm, Claims, Error};
use serde_json::{Map, Value, json};

use super::input::assert_hidden;
use super::target::Target;

/// The properties of keys.
pub(crate) const TARGET: Target = Target {
    name: "keys",
    inputs: 3_000,
    seeds,
    check,
};

const SET: u8 = 0;
const PUBLIC: u8 = 1;
const PRIVATE: u8 = 2;

/// Members that no public key has.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The PEM files and the JWKs of the published vectors, each in every kind that it fits.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for pem in [
        &include_bytes!("../vectors/pem/ed25519.pkcs8.pem")[..],
        include_bytes!("../vectors/pem/p256.pkcs8.pem"),
        include_bytes!("../vectors/pem/p256.sec1.pem"),
        include_bytes!("../vectors/pem/rsa2048.pkcs1.pem"),
        include_bytes!("../vectors/pem/rsa2048.pkcs8.pem"),
        include_bytes!("../vectors/pem/ed25519.encrypted.pem"),
        include_bytes!("../vectors/pem/ed25519.public.pem"),
        include_bytes!("../vectors/pem/ed448.pkcs8.pem"),
        include_bytes!("../vectors/pem/p384.pkcs8.pem"),
        include_bytes!("../vectors/pem/rsapss2048.pkcs8.pem"),
        include_bytes!("../vectors/pem/certificate.pem"),
    ] {
        seeds.push([&[PRIVATE], pem].concat());
    }
    let mut public = Vec::new();
    for jwk in [
        include_str!("../vectors/rfc-cookbook/jwk/3_1.ec_public_key.json"),
        include_str!("../vectors/rfc-cookbook/jwk/3_2.ec_private_key.json"),
        include_str!("../vectors/rfc-cookbook/jwk/3_3.rsa_public_key.json"),
        include_str!("../vectors/rfc-cookbook/jwk/3_4.rsa_private_key.json"),
        include_str!("../vectors/rfc-cookbook/jwk/3_5.symmetric_key_mac_computation.json"),
        // RFC 8037 §A.1.
        r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    ] {
        seeds.push([&[PRIVATE], jwk.as_bytes()].concat());
        seeds.push([&[PUBLIC], jwk.as_bytes()].concat());
        let mut members: Map<String, Value> = serde_json::from_str(jwk).unwrap();
        members.retain(|name, _| !PRIVATE_MEMBERS.contains(&name.as_str()));
        members.insert("kid".to_owned(), json!(public.len().to_string()));
        members.insert("use".to_owned(), json!("sig"));
        public.push(Value::Object(members));
    }
    public.retain(|key| matches!(key["crv"].as_str(), None | Some("P-256" | "Ed25519")) && key["kty"] != "oct");
    seeds.insert(0, [&[SET], json!({"keys": public}).to_string().as_bytes()].concat());
    seeds
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    match input.split_first() {
        Some((&PRIVATE, file)) => private(file),
        Some((&PUBLIC, text)) => std::str::from_utf8(text).is_ok_and(public),
        Some((_, text)) => std::str::from_utf8(text).is_ok_and(set),
        None => false,
    }
}

fn set(text: &str) -> bool {
    let keys = match parse_set(text) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(VerifyingKeys::from_jwks(text).is_err());
            assert_hidden(&error.to_string(), text.as_bytes());
            return false;
        }
    };
    let set: Value = serde_json::from_str(text).unwrap();
    let given = set["keys"].as_array().unwrap();
    let of_known_type = given
        .iter()
        .filter(|key| matches!(key["kty"].as_str().unwrap(), "OKP" | "EC" | "RSA" | "oct"));
    let of_known_type: Vec<&Value> = of_known_type.collect();
    assert_eq!(of_known_type.len(), keys.len(), "in order, none left out");
    for (at, ((kid, key), given)) in keys.iter().zip(of_known_type).enumerate() {
        assert_eq!(given["kid"], json!(kid));
        assert!(keys[..at].iter().all(|(other, _)| other != kid), "two keys of one id");
        is_public_key_of(key, given);
    }
    // A set of which each id is the thumbprint is what the verifier takes.
    let are_thumbprints = keys.iter().all(|(kid, key)| kid == key.id().as_str());
    assert_eq!(VerifyingKeys::from_jwks(text).is_ok(), are_thumbprints);
    !keys.is_empty()
}

fn public(text: &str) -> bool {
    match parse_public(text) {
        Ok(key) => {
            is_public_key_of(&key, &serde_json::from_str(text).unwrap());
            true
        }
        Err(error) => {
            assert_hidden(&error.to_string(), text.as_bytes());
            false
        }
    }
}

/// The key has the members that were given, and none that is private.
fn is_public_key_of(key: &PublicKey, given: &Value) {
    let canonical: Map<String, Value> = serde_json::from_str(key.canonical_jwk()).unwrap();
    for (name, value) in &canonical {
        assert_eq!(given[name], *value, "{name}");
    }
    for name in PRIVATE_MEMBERS {
        assert!(given.get(name).is_none(), "{name}");
    }
    assert!(given.get("use").is_none_or(|usage| usage == "sig"));
    assert!(given.get("alg").is_none_or(|alg| alg == key.algorithm().as_str()));
    let again = parse_public(key.canonical_jwk()).unwrap();
    assert_eq!((&again, again.id()), (key, key.id()));
    if key.algorithm() == Algorithm::Rs256 {
        let modulus = URL_SAFE_NO_PAD.decode(canonical["n"].as_str().unwrap()).unwrap();
        assert!((256..=512).contains(&modulus.len()), "{} bytes", modulus.len());
    }
}

/// An imported key signs tokens that its public half verifies, and comes back from the form in which it is stored.
fn private(file: &[u8]) -> bool {
    let key = match SigningKey::import(file) {
        Ok(key) => key,
        Err(error) => {
            is_harmless(&error, file);
            return false;
        }
    };
    let stored = key.to_pkcs8().unwrap();
    let again = SigningKey::from_pkcs8(key.algorithm(), &stored).unwrap();
    assert_eq!(again.public(), key.public());
    let claims: Claims = serde_json::from_value(json!({
        "iss": "i", "sub": "s", "aud": ["api"], "client_id": "web", "iat": 1, "exp": 60,
        "jti": "0190b6a8-2222-7000-8000-000000000002", "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"},
    }))
    .unwrap();
    let token = key.sign(&claims).unwrap();
    let mut keys = VerifyingKeys::default();
    keys.insert(key.public().clone(), None);
    let policy = Policy {
        issuer: "i".to_owned(),
        leeway: std::time::Duration::ZERO,
    };
    assert_eq!(verify_any_age(&token, &keys, &policy), Ok(claims));
    true
}

fn is_harmless(error: &Error, file: &[u8]) {
    assert_hidden(&error.to_string(), file);
    assert_eq!(error.violations[0].field, "key");
}
