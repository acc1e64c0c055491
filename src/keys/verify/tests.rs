#![cfg(feature = "server")]

use serde_json::{Value, json};

use super::*;
use crate::keys::fixtures::{NOW, claims, header, now, policy, signed, verifying};
use crate::keys::signing::SigningKey;
use crate::model::{Algorithm, KeyState};
use crate::secret::SystemEntropy;

use InactiveReason::{
    BadSignature, Expired, Malformed, NotYetValid, RevokedKey, UnknownKey, Unsupported, WrongIssuer, WrongType,
};

mod form;

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa, &SystemEntropy).unwrap()
}

fn judge(token: &str, key: &SigningKey) -> Result<Verified, InactiveReason> {
    verify(token, &verifying([key]), &policy(), now())
}

/// The verdict on a token with this header and payload, rightly signed.
fn verdict(header: &Value, payload: &Value, key: &SigningKey) -> Result<Verified, InactiveReason> {
    judge(
        &signed(key, header.to_string().as_bytes(), payload.to_string().as_bytes()),
        key,
    )
}

/// The verdict on a good token in which one claim is replaced (`null`: removed).
fn with_claim(name: &str, value: Value) -> Result<(), InactiveReason> {
    let (key, mut payload) = (key(), claims());
    spoil(&mut payload, name, value);
    verdict(&header(&key), &payload, &key).map(drop)
}

/// The same for a header parameter.
fn with_header(name: &str, value: Value) -> Result<(), InactiveReason> {
    let key = key();
    let mut header = header(&key);
    spoil(&mut header, name, value);
    verdict(&header, &claims(), &key).map(drop)
}

fn spoil(object: &mut Value, name: &str, value: Value) {
    let members = object.as_object_mut().unwrap();
    if value == Value::Null {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}

#[test]
fn what_each_algorithm_signs_is_read_back() {
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
        let said: Claims = serde_json::from_value(claims()).unwrap();
        let verified = judge(&key.sign(&said).unwrap(), &key).unwrap();
        assert_eq!((verified.claims, &verified.key_id), (said, key.id()));
    }
}

#[test]
fn rfc9068_typ_is_at_jwt_in_any_case_with_or_without_application() {
    for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(with_header("typ", json!(good)), Ok(()), "{good}");
    }
    for bad in [
        Value::Null,
        json!("JWT"),
        json!("jwt"),
        json!("at+jwt "),
        json!("text/at+jwt"),
        json!(""),
        json!("application/"),
    ] {
        assert_eq!(with_header("typ", bad.clone()), Err(WrongType), "{bad}");
    }
}

#[test]
fn rfc8725_3_1_the_key_decides_the_algorithm() {
    for other in [
        "none", "None", "NONE", "HS256", "RS384", "PS256", "ES384", "ES256K", "EdDSA ", "eddsa", "Ed25519", "Ed448", "",
    ] {
        assert_eq!(with_header("alg", json!(other)), Err(Unsupported), "{other}");
    }
    // Ours, but not the key's.
    for other in ["ES256", "RS256"] {
        assert_eq!(with_header("alg", json!(other)), Err(BadSignature), "{other}");
    }
    assert_eq!(with_header("alg", Value::Null), Err(Malformed));
}

#[test]
fn rfc7515_4_1_11_what_a_header_asks_for_beyond_our_powers_is_refused() {
    for name in ["crit", "b64", "cty", "jku", "jwk", "x5u", "x5c"] {
        for value in [json!(["exp"]), json!(true), json!("x"), json!({}), json!([])] {
            assert_eq!(with_header(name, value.clone()), Err(Unsupported), "{name}: {value}");
        }
    }
    // RFC 7515 §4: others are ignored.
    for name in ["x5t", "x5t#S256", "enc", "foo"] {
        assert_eq!(with_header(name, json!("x")), Ok(()), "{name}");
    }
}

#[test]
fn wrong_types_in_the_header_are_malformed() {
    for name in ["alg", "typ", "kid"] {
        for value in [json!(1), json!(["at+jwt"]), json!({}), json!(true)] {
            assert_eq!(with_header(name, value.clone()), Err(Malformed), "{name}: {value}");
        }
    }
    let key = key();
    let mut nulled = header(&key);
    nulled["kid"] = Value::Null;
    assert_eq!(verdict(&nulled, &claims(), &key), Err(Malformed));
}

#[test]
fn rfc9068_2_2_required_claims_are_there_and_of_the_right_type() {
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti", "epo"] {
        for value in [Value::Null, json!(true), json!({}), json!([1]), json!(1.5), json!("")] {
            let expected = match (name, &value) {
                ("iss", Value::String(_)) => WrongIssuer,
                ("aud", Value::String(_)) => continue, // the audience "", which is nobody's
                _ => Malformed,
            };
            assert_eq!(with_claim(name, value.clone()), Err(expected), "{name}: {value}");
        }
    }
    assert_eq!(with_claim("aud", json!("api")), Ok(()));
    assert_eq!(with_claim("aud", json!([])), Err(Malformed));
    assert_eq!(with_claim("aud", json!(["api", 1])), Err(Malformed));
    assert_eq!(with_claim("exp", json!(f64::from(i32::MAX))), Err(Malformed));
    assert_eq!(with_claim("exp", json!("1800000840")), Err(Malformed));
    assert_eq!(with_claim("exp", json!(u64::MAX)), Err(Malformed));
    assert_eq!(with_claim("epo", json!([1, 2, 3, "web"])), Err(Malformed));
    assert_eq!(with_claim("epo", json!({"g": 1, "u": 2, "cid": "web"})), Err(Malformed));
}

#[test]
fn optional_claims_are_of_the_right_type_too() {
    for name in ["nbf", "scope", "sid", "auth_time", "roles", "act", "root", "ext"] {
        let (key, mut payload) = (key(), claims());
        for value in [Value::Null, json!(true), json!([[]]), json!(1.5)] {
            payload[name] = value.clone();
            assert_eq!(
                verdict(&header(&key), &payload, &key),
                Err(Malformed),
                "{name}: {value}"
            );
        }
    }
    let link = json!(["web", "web", null, null, {"g": 1, "u": 2, "c": 3, "cid": "web"}, null]);
    assert_eq!(with_claim("act", link), Err(Malformed), "a link given as an array");
}

#[test]
fn duplicate_members_are_malformed_wherever_they_are() {
    let key = key();
    let (header, payload) = (header(&key).to_string(), claims().to_string());
    let twice = |text: &str, more: &str| text.replacen('{', &format!("{{{more},"), 1);
    for (header, payload) in [
        (twice(&header, r#""alg":"none""#), payload.clone()),
        (twice(&header, r#""x":{"a":1,"a":1}"#), payload.clone()),
        (header.clone(), twice(&payload, r#""sub":"somebody""#)),
        (header.clone(), twice(&payload, r#""s\u0075b":"somebody""#)),
        (header.clone(), twice(&payload, r#""ext":{"a":{"b":1,"b":1}}"#)),
        (header.clone(), twice(&payload, r#""x":[{"b":1,"b":1}]"#)),
    ] {
        assert_eq!(
            judge(&signed(&key, header.as_bytes(), payload.as_bytes()), &key),
            Err(Malformed),
            "{header} {payload}"
        );
    }
}

#[test]
fn keys_are_known_by_their_kid_alone() {
    let (key, other) = (key(), key());
    let token = |kid: Value| {
        let mut header = header(&key);
        spoil(&mut header, "kid", kid);
        signed(&key, header.to_string().as_bytes(), claims().to_string().as_bytes())
    };
    let keys = verifying([&key, &other]);
    let judge = |token: &str, keys: &VerifyingKeys| verify(token, keys, &policy(), now()).map(drop);
    assert_eq!(judge(&token(json!(key.id().as_str())), &keys), Ok(()));
    assert_eq!(judge(&token(json!(other.id().as_str())), &keys), Err(BadSignature));
    for unknown in [
        Value::Null,
        json!(""),
        json!("x"),
        json!("../../etc/passwd"),
        json!("' OR 1=1"),
    ] {
        assert_eq!(judge(&token(unknown), &keys), Err(UnknownKey));
    }
    let mut keys = keys;
    keys.note(key.id(), KeyState::Revoked, None);
    assert_eq!(judge(&token(json!(key.id().as_str())), &keys), Err(RevokedKey));
    assert_eq!(
        judge(&token(json!(key.id().as_str())), &VerifyingKeys::default()),
        Err(UnknownKey)
    );
}

#[test]
fn a_retired_key_signs_nothing_new() {
    let key = key();
    let token = signed(
        &key,
        header(&key).to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    let issued = UnixMillis::from_secs(NOW - 60);
    for (retired, expected) in [
        (issued, Ok(())),
        (issued.minus(RETIREMENT_GRACE), Ok(())),
        (
            issued.minus(RETIREMENT_GRACE + Duration::from_millis(1)),
            Err(BadSignature),
        ),
    ] {
        let mut keys = verifying([&key]);
        keys.note(key.id(), KeyState::Retired, Some(retired));
        assert_eq!(
            verify(&token, &keys, &policy(), now()).map(drop),
            expected,
            "{retired:?}"
        );
    }
}

#[test]
fn the_issuer_is_exactly_the_text() {
    for other in [
        "https://issuer.test/",
        "https://ISSUER.test",
        "http://issuer.test",
        " https://issuer.test",
    ] {
        assert_eq!(with_claim("iss", json!(other)), Err(WrongIssuer), "{other}");
    }
}

#[test]
fn times_are_obeyed_with_five_seconds_of_leeway_and_no_more() {
    let with = |iat: i64, exp: i64, nbf: Option<i64>| {
        let (key, mut payload) = (key(), claims());
        payload["iat"] = json!(iat);
        payload["exp"] = json!(exp);
        if let Some(nbf) = nbf {
            payload["nbf"] = json!(nbf);
        }
        let token = signed(
            &key,
            header(&key).to_string().as_bytes(),
            payload.to_string().as_bytes(),
        );
        let generous = Policy {
            leeway: Duration::from_hours(1),
            ..policy()
        };
        let verdict = verify(&token, &verifying([&key]), &generous, now()).map(drop);
        assert_eq!(verdict, verify(&token, &verifying([&key]), &policy(), now()).map(drop));
        verdict
    };
    assert_eq!(with(NOW + 5, NOW + 60, None), Ok(()));
    assert_eq!(with(NOW + 6, NOW + 60, None), Err(NotYetValid));
    assert_eq!(with(NOW, NOW + 60, Some(NOW + 5)), Ok(()));
    assert_eq!(with(NOW, NOW + 60, Some(NOW + 6)), Err(NotYetValid));
    assert_eq!(with(NOW - 60, NOW - 4, None), Ok(()));
    assert_eq!(with(NOW - 60, NOW - 5, None), Err(Expired));
    assert_eq!(with(NOW, NOW + 86_400, None), Ok(()));
    assert_eq!(with(NOW, NOW + 86_401, None), Err(Malformed));
    for (iat, exp) in [(i64::MIN, i64::MAX), (i64::MIN, i64::MIN), (0, i64::MIN), (-1, 0)] {
        assert!(with(iat, exp, None).is_err());
    }
    assert_eq!(with(i64::MAX, i64::MAX, None), Err(NotYetValid));
}

#[test]
fn a_clock_at_any_time_is_survived() {
    let key = key();
    let token = signed(
        &key,
        header(&key).to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    for (now, expected) in [
        (UnixMillis(i64::MIN), NotYetValid),
        (UnixMillis(-1), NotYetValid),
        (UnixMillis(0), NotYetValid),
        (UnixMillis::from_secs(253_402_300_799), Expired), // 9999-12-31
        (UnixMillis(i64::MAX), Expired),
    ] {
        assert_eq!(
            verify(&token, &verifying([&key]), &policy(), now),
            Err(expected),
            "{now:?}"
        );
    }
}

/// Each fault with all later ones on top: the first in the order of the reasons must win.
#[test]
fn the_first_reason_in_the_order_wins() {
    let (signer, other) = (key(), key());
    let mut payload = claims();
    let mut header = header(&signer);
    let mut keys = verifying([&signer]);
    let judge = |header: &Value, payload: &Value, keys: &VerifyingKeys| {
        let token = signed(&other, header.to_string().as_bytes(), payload.to_string().as_bytes());
        verify(&token, keys, &policy(), now()).map(drop)
    };
    payload["exp"] = json!(NOW - 10);
    let by_signer = |payload: &Value| verdict(&self::header(&signer), payload, &signer).map(drop);
    assert_eq!(by_signer(&payload), Err(Expired));
    payload["nbf"] = json!(NOW + 10);
    assert_eq!(by_signer(&payload), Err(NotYetValid));
    payload["iss"] = json!("x");
    assert_eq!(by_signer(&payload), Err(WrongIssuer));
    assert_eq!(judge(&header, &payload, &keys), Err(BadSignature));
    keys.note(signer.id(), KeyState::Revoked, None);
    assert_eq!(judge(&header, &payload, &keys), Err(RevokedKey));
    header["kid"] = json!("unknown");
    assert_eq!(judge(&header, &payload, &keys), Err(UnknownKey));
    header["typ"] = json!("JWT");
    assert_eq!(judge(&header, &payload, &keys), Err(WrongType));
    header["alg"] = json!("none");
    assert_eq!(judge(&header, &payload, &keys), Err(Unsupported));
    payload["exp"] = json!("soon");
    assert_eq!(judge(&header, &payload, &keys), Err(Malformed));
}

#[test]
fn the_claimed_key_is_told_of_well_formed_tokens_only() {
    let key = key();
    let token = signed(&key, header(&key).to_string().as_bytes(), b"{}");
    assert_eq!(claimed_key(&token).as_ref(), Some(key.id()));
    for other in ["", "csr_AAAA", "a.b.c"] {
        assert_eq!(claimed_key(other), None);
    }
}
