//! Published test vectors (`tests/vectors/`) against the parsers and the signature check that [`verify`] uses:
//! [`jwk::parse_public`], [`jwk::parse_set`], [`Jws::parse`] and [`Jws::check_signature`]. The payloads of the vectors are
//! not access tokens of ours, so the tests also check that [`verify`] refuses each of them.

#![cfg(feature = "server")]

use serde::Deserialize;
use serde_json::Value;

use super::fixtures::{now, policy};
use super::jwk;
use super::jws::{Jws, Scratch};
use super::verify::verify;
use super::verifying::VerifyingKeys;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wycheproof {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    public: Option<Value>,
    private: Value,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: u64,
    comment: String,
    #[serde(alias = "jwe")]
    jws: Value,
    result: String,
}

fn vectors(path: &str) -> String {
    let path = format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn wycheproof(file: &str) -> Wycheproof {
    serde_json::from_str(&vectors(&format!("wycheproof/{file}"))).unwrap()
}

/// Whether the signature of a JWS is valid under a JWK or a JWK set; the key fixes the algorithm.
fn signature_is_valid(keys: &Value, jws: &Value) -> bool {
    let Some(token) = jws.as_str() else {
        return false; // a JSON serialisation, which access tokens do not use
    };
    let (mut scratch, no_keys) = (Scratch::new(), VerifyingKeys::default());
    let Some(jws) = Jws::parse(token, &no_keys, &mut scratch) else {
        return false;
    };
    let key = if keys.get("keys").is_some() {
        let set = jwk::parse_set(&keys.to_string()).unwrap_or_default();
        set.into_iter()
            .find(|(kid, _)| Some(kid.as_str()) == jws.kid())
            .map(|(_, key)| key)
    } else {
        jwk::parse_public(&keys.to_string()).ok()
    };
    key.is_some_and(|key| jws.check_signature(&key).is_ok())
}

/// Asserts that `verify` refuses the vector, which is not an access token, under its own key.
fn verify_refuses(keys: &Value, jws: &Value) {
    let (Some(token), Ok(key)) = (jws.as_str(), jwk::parse_public(&keys.to_string())) else {
        return;
    };
    let mut verifying = VerifyingKeys::default();
    verifying.insert(key, None);
    assert!(verify(token, &verifying, &policy(), now()).is_err(), "{token:.60}");
}

/// The cases in which this service differs from the labels of a file, by reason.
#[derive(Default)]
struct Exceptions {
    /// Labelled valid and refused: the algorithm is not supported.
    other_algorithm: Vec<u64>,
    /// Labelled valid and refused: the label is wrong.
    not_valid: Vec<u64>,
    /// Labelled invalid for a reason outside the JWS itself.
    not_invalid: Vec<u64>,
}

/// Checks the cases of a file; returns the numbers of the accepted ones.
fn run(file: &str, exceptions: &Exceptions) -> Vec<u64> {
    let file = wycheproof(file);
    let cases: usize = file.test_groups.iter().map(|group| group.tests.len()).sum();
    assert_eq!(cases, file.number_of_tests);
    let mut accepted = Vec::new();
    for group in &file.test_groups {
        let keys = group.public.as_ref().unwrap_or(&group.private);
        for case in &group.tests {
            verify_refuses(keys, &case.jws);
            let is_in = |list: &[u64]| list.contains(&case.tc_id);
            let expected = match case.result.as_str() {
                "valid" => !is_in(&exceptions.other_algorithm) && !is_in(&exceptions.not_valid),
                _ => is_in(&exceptions.not_invalid),
            };
            let accepts = signature_is_valid(keys, &case.jws);
            assert_eq!(accepts, expected, "tc{} {}", case.tc_id, case.comment);
            if accepts {
                accepted.push(case.tc_id);
            }
        }
    }
    accepted
}

#[test]
fn wycheproof_json_web_signature() {
    let exceptions = Exceptions {
        other_algorithm: [
            &[1, 348, 352, 357, 358, 359, 376, 377][..], // HS256
            &[264, 265, 266, 267],                       // RS384
            &[268, 269, 270, 271],                       // RS512
            &[272, 273, 274, 275, 287, 288],             // PS256
            &[320, 321, 322, 323],                       // PS384
            &[325, 326, 327, 328],                       // PS512
            &[346, 350],                                 // the JWK says PS256, the header PS384
            &[347, 351],                                 // the JWK says ES521, which does not exist, for P-521
        ]
        .concat(),
        not_valid: vec![372, 373], // a '?' inside a part, and the MAC is of something else
        not_invalid: vec![],
    };
    let accepted = run("json_web_signature_test.json", &exceptions);
    assert_eq!(accepted, [18, 33, 259, 260, 261, 262, 263, 345, 349, 378]);
}

#[test]
fn wycheproof_json_web_key() {
    let exceptions = Exceptions {
        other_algorithm: vec![2, 13, 14, 15], // HS256, HS384, HS512
        ..Exceptions::default()
    };
    assert_eq!(run("json_web_key_test.json", &exceptions), [5]);
}

#[test]
fn wycheproof_json_web_crypto() {
    let exceptions = Exceptions {
        other_algorithm: vec![1, 48, 50, 67], // HS256; 50 and 67 are JWE
        ..Exceptions::default()
    };
    assert_eq!(run("json_web_crypto_test.json", &exceptions), [18, 33]);
}

#[test]
fn wycheproof_json_web_encryption_is_refused_as_malformed() {
    let file = wycheproof("json_web_encryption_test.json");
    let mut scratch = Scratch::new();
    let cases = file.test_groups.iter().flat_map(|group| &group.tests);
    let mut count = 0;
    for case in cases {
        let token = case.jws.as_str().unwrap_or_default();
        assert!(
            Jws::parse(token, &VerifyingKeys::default(), &mut scratch).is_none(),
            "tc{}",
            case.tc_id
        );
        count += 1;
    }
    assert_eq!(count, file.number_of_tests);
}

/// The examples of RFC 7520 (JWS), RFC 8037 and RFC 7797: only those in compact form with a supported algorithm are valid.
#[test]
fn rfc7520_rfc8037_and_rfc7797() {
    for (file, good) in [
        ("jws/4_1.rsa_v15_signature.json", true),
        ("jws/4_2.rsa-pss_signature.json", false),               // PS384
        ("jws/4_3.ecdsa_signature.json", false),                 // ES512
        ("jws/4_4.hmac-sha2_integrity_protection.json", false),  // HS256
        ("jws/4_5.signature_with_detached_content.json", false), // no payload in it
        ("jws/4_6.protecting_specific_header_fields.json", false),
        ("jws/4_7.protecting_content_only.json", false),
        ("jws/4_8.multiple_signatures.json", false),
        ("curve25519/jws.json", true),
        ("rfc7797/hmac-sha2_b64_false.json", false),
        ("rfc7797/4.2.hmac-sha2_b64_false.json", false),
    ] {
        let example: Value = serde_json::from_str(&vectors(&format!("rfc-cookbook/{file}"))).unwrap();
        let output = example["output"].as_object().unwrap();
        let mut key = example["input"]["key"].clone();
        if let Some(members) = key.as_object_mut() {
            members.retain(|name, _| !matches!(name.as_str(), "d" | "p" | "q" | "dp" | "dq" | "qi"));
        }
        for (form, jws) in output {
            let accepts = signature_is_valid(&key, jws);
            assert_eq!(accepts, good && form == "compact", "{file} {form}");
            verify_refuses(&key, jws);
        }
    }
}

/// RFC 7797 §6: a reader that does not support `b64: false` must refuse such a header, because it would read another
/// payload than the signed one.
#[test]
fn rfc7797_b64_is_refused_even_with_a_good_signature() {
    let key =
        super::signing::SigningKey::generate(crate::model::Algorithm::EdDsa, &crate::secret::SystemEntropy).unwrap();
    for header in [
        r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"EdDSA","b64":true}"#,
    ] {
        let token = super::fixtures::signed(&key, header.as_bytes(), b"$.02");
        let key: Value = serde_json::from_str(key.public().canonical_jwk()).unwrap();
        assert!(!signature_is_valid(&key, &Value::String(token)), "{header}");
    }
}

#[test]
fn rfc7520_keys() {
    for (file, good) in [
        ("jwk/3_1.ec_public_key.json", false),  // P-521
        ("jwk/3_2.ec_private_key.json", false), // P-521, private
        ("jwk/3_3.rsa_public_key.json", true),
        ("jwk/3_4.rsa_private_key.json", false),               // private
        ("jwk/3_5.symmetric_key_mac_computation.json", false), // symmetric
        ("jwk/3_6.symmetric_key_encryption.json", false),      // symmetric
    ] {
        assert_eq!(
            jwk::parse_public(&vectors(&format!("rfc-cookbook/{file}"))).is_ok(),
            good,
            "{file}"
        );
    }
}

#[test]
fn rfc7515_appendix_a() {
    let file: Value = serde_json::from_str(&vectors("rfc/rfc7515.json")).unwrap();
    for example in file["jws"].as_array().unwrap() {
        let good = matches!(example["alg"].as_str(), Some("RS256" | "ES256"));
        assert_eq!(
            signature_is_valid(&example["jwk"], &example["compact"]),
            good,
            "{}",
            example["name"]
        );
        verify_refuses(&example["jwk"], &example["compact"]);
    }
}

#[test]
fn rfc7638_thumbprints() {
    let file: Value = serde_json::from_str(&vectors("rfc/rfc7515.json")).unwrap();
    for example in file["thumbprints"].as_array().unwrap() {
        let key = jwk::parse_public(&example["jwk"].to_string()).unwrap();
        assert_eq!(key.id().as_str(), example["thumbprint"], "{}", example["name"]);
    }
}
