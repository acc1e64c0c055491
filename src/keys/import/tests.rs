use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

fn file(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn refusal(file: &[u8]) -> String {
    let error = SigningKey::import(file).unwrap_err();
    assert_eq!(error.violations.len(), 1, "{error}");
    error.message.into_owned()
}

#[test]
fn each_form_of_a_private_key_is_read_as_the_same_key() {
    for (algorithm, forms) in [
        (Algorithm::EdDsa, &["pem/ed25519.pkcs8.pem"][..]),
        (Algorithm::Es256, &["pem/p256.pkcs8.pem", "pem/p256.sec1.pem"]),
        (Algorithm::Rs256, &["pem/rsa2048.pkcs8.pem", "pem/rsa2048.pkcs1.pem"]),
    ] {
        let keys: Vec<SigningKey> = forms
            .iter()
            .map(|path| SigningKey::import(&file(path)).unwrap())
            .collect();
        for key in &keys {
            assert_eq!((key.algorithm(), key.id()), (algorithm, keys[0].id()));
            let signature = key.signature(b"message").unwrap();
            assert!(key.public().verifies(b"message", &signature));
        }
    }
}

#[test]
fn a_jwk_with_its_private_half_is_read() {
    // RFC 8037 A.1 and RFC 7520 §3.4.
    let ed25519: Value = serde_json::from_slice(&file("rfc-cookbook/curve25519/jws.json")).unwrap();
    let key = SigningKey::import(ed25519["input"]["key"].to_string().as_bytes()).unwrap();
    assert_eq!(key.id().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let signed = ed25519["signing"]["sig-input"].as_str().unwrap();
    let signature = URL_SAFE_NO_PAD.encode(key.signature(signed.as_bytes()).unwrap());
    assert_eq!(signature, ed25519["signing"]["sig"], "RFC 8037 A.4");

    let rsa = file("rfc-cookbook/jwk/3_4.rsa_private_key.json");
    let key = SigningKey::import(&rsa).unwrap();
    let example: Value = serde_json::from_slice(&file("rfc-cookbook/jws/4_1.rsa_v15_signature.json")).unwrap();
    let signed = example["signing"]["sig-input"].as_str().unwrap();
    let signature = URL_SAFE_NO_PAD.encode(key.signature(signed.as_bytes()).unwrap());
    assert_eq!(signature, example["signing"]["sig"], "RFC 7520 §4.1");

    // RFC 7515 A.3.1.
    let p256 = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
    });
    assert_eq!(
        SigningKey::import(p256.to_string().as_bytes()).unwrap().algorithm(),
        Algorithm::Es256
    );
}

#[test]
fn what_is_no_usable_private_key_is_refused_with_what_is_wrong() {
    for (path, says) in [
        ("pem/ed25519.public.pem", "a public key"),
        ("pem/certificate.pem", "a public key"),
        ("pem/rsa2048.pkcs1-public.pem", "a public key"),
        ("rfc-cookbook/jwk/3_3.rsa_public_key.json", "a public key"),
        ("pem/ed25519.encrypted.pem", "encrypted"),
        ("pem/rsa1024.pkcs8.pem", "2048"),
        ("pem/rsa1024.pkcs1.pem", "2048"),
        ("pem/rsa2048-e3.pkcs8.pem", "exponent"),
        ("pem/p384.pkcs8.pem", "P-256"),
        ("pem/p384.sec1.pem", "P-256"),
        ("pem/x25519.pkcs8.pem", "none of"),
        ("pem/ed448.pkcs8.pem", "none of"),
        ("pem/rsapss2048.pkcs8.pem", "none of"),
        ("rfc-cookbook/jwk/3_5.symmetric_key_mac_computation.json", "key type"),
        ("rfc-cookbook/jwk/3_2.ec_private_key.json", "curve"),
    ] {
        let refusal = refusal(&file(path));
        assert!(refusal.contains(says), "{path}: {refusal}");
    }
}

#[test]
fn garbage_is_refused() {
    let good = String::from_utf8(file("pem/rsa2048.pkcs8.pem")).unwrap();
    let cut: String = good.lines().take(10).collect::<Vec<_>>().join("\n");
    let flipped = good.replacen("MII", "AII", 1);
    for garbage in [
        &b""[..],
        b"\0\xff\xfe",
        b"{}",
        b"{\"kty\":",
        b"{\"kty\":\"OKP\",\"kty\":\"OKP\"}",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----",
        cut.as_bytes(),
        flipped.as_bytes(),
        good.repeat(2).as_bytes(),
        "x".repeat(MAX_FILE + 1).as_bytes(),
    ] {
        let refusal = refusal(garbage);
        assert!(!refusal.contains("AII"), "{refusal}");
    }
}

#[test]
fn halves_that_do_not_belong_together_are_refused() {
    let ed25519: Value = serde_json::from_slice(&file("rfc-cookbook/curve25519/jws.json")).unwrap();
    let rsa: Value = serde_json::from_slice(&file("rfc-cookbook/jwk/3_4.rsa_private_key.json")).unwrap();
    let other = URL_SAFE_NO_PAD.encode([7; 32]);
    let mut spoilt = Vec::new();
    for (jwk, members) in [
        (&ed25519["input"]["key"], &["d"][..]),
        (&rsa, &["d", "p", "q", "dp", "dq", "qi"]),
    ] {
        for member in members {
            for value in [json!(other), json!(""), json!("AQ"), json!("*")] {
                let mut jwk = jwk.clone();
                jwk[member] = value;
                spoilt.push(jwk);
            }
        }
    }
    for mut jwk in [ed25519["input"]["key"].clone(), rsa.clone()] {
        jwk["use"] = json!("enc");
        spoilt.push(jwk.clone());
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("HS256");
        spoilt.push(jwk.clone());
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["key_ops"] = json!(["verify"]);
        spoilt.push(jwk);
    }
    for jwk in spoilt {
        assert!(SigningKey::import(jwk.to_string().as_bytes()).is_err(), "{jwk}");
    }
}
