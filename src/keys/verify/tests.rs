#![cfg(feature = "server")]

mod claims;
mod form;
mod header;

use serde_json::{Value, json};

use super::*;
use crate::keys::fixtures::{NOW, claims, header, now, policy, signed, verifying, written};
use crate::keys::signing::SigningKey;
use crate::model::{Algorithm, KeyState};
use crate::secret::SystemEntropy;

use InactiveReason::{
    BadSignature, Expired, Malformed, NotYetValid, RevokedKey, UnknownKey, Unsupported, WrongIssuer, WrongType,
};

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa, &SystemEntropy).unwrap()
}

fn judge(token: &str, key: &SigningKey) -> Result<VerifiedToken, InactiveReason> {
    verify(token, &verifying([key]), &policy(), now())
}

/// The verdict on a token with this header and payload, rightly signed.
fn verdict(header: &Value, payload: &Value, key: &SigningKey) -> Result<VerifiedToken, InactiveReason> {
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
        assert_eq!((&*verified.claims, &verified.key_id), (&said, key.id()));
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
