//! What a token looks like, before anything in it is believed.

use super::*;

#[test]
fn duplicate_members_are_malformed_wherever_they_are() {
    let key = key();
    let twice = |text: &str, more: &str| text.replacen('{', &format!("{{{more},"), 1);
    for (header, payload) in written(&key) {
        assert!(judge(&signed(&key, header.as_bytes(), payload.as_bytes()), &key).is_ok());
        for (header, payload) in [
            (twice(&header, r#""alg":"none""#), payload.clone()),
            (twice(&header, r#""x":{"a":1,"a":1}"#), payload.clone()),
            (header.clone(), twice(&payload, r#""sub":"somebody""#)),
            (header.clone(), twice(&payload, r#""s\u0075b":"somebody""#)),
            (header.clone(), twice(&payload, r#""ext":{"a":{"b":1,"b":1}}"#)),
            (header.clone(), twice(&payload, r#""x":[{"b":1,"b":1}]"#)),
            (header.clone(), payload.replace(r#""epo":{"#, r#""epo":{"x":1,"x":1,"#)),
            (header.clone(), payload.replace(r#""epo":{"#, r#""epo":{"g":1,"#)),
        ] {
            assert_eq!(
                judge(&signed(&key, header.as_bytes(), payload.as_bytes()), &key),
                Err(Malformed),
                "{header} {payload}"
            );
        }
    }
}

#[test]
fn the_compact_form_is_read_strictly() {
    let key = key();
    for (header, payload) in written(&key) {
        let good = signed(&key, header.as_bytes(), payload.as_bytes());
        assert!(judge(&good, &key).is_ok());
        let parts: Vec<&str> = good.split('.').collect();
        let [head, body, tail] = parts[..] else { unreachable!() };
        let padded = format!("{head}.{body}.{tail}==");
        for bad in [
            String::new(),
            ".".into(),
            "..".into(),
            "a.b.c".into(),
            format!("{head}.{body}"),
            format!("{good}."),
            format!("{good}.{tail}"),
            format!(".{good}"),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{head}.{body}.{}", &tail[..tail.len() - 2].to_owned()) + "+/",
            padded,
            format!("{head}..{tail}"),
            format!(".{body}.{tail}"),
            good.replace('.', ".."),
            good.replace('.', "\u{2024}"),
        ] {
            assert_eq!(judge(&bad, &key), Err(Malformed), "{bad:.60}");
        }
        assert_eq!(judge(&format!("{head}.{body}."), &key), Err(BadSignature));
    }
    for part in [&b"[]"[..], b"1", b"null", b"\"x\"", b"", b"{", b"\xff"] {
        assert_eq!(
            judge(&signed(&key, part, claims().to_string().as_bytes()), &key),
            Err(Malformed)
        );
        assert_eq!(
            judge(&signed(&key, header(&key).to_string().as_bytes(), part), &key),
            Err(Malformed)
        );
    }
}

#[test]
fn no_other_spelling_of_a_token_is_good() {
    // The last character of 64 bytes in base64url carries four bits that mean nothing: they must be zero.
    let key = key();
    for (header, payload) in written(&key) {
        let good = signed(&key, header.as_bytes(), payload.as_bytes());
        let mut spellings = 0;
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
            let other = format!("{}{last}", &good[..good.len() - 1]);
            spellings += u32::from(judge(&other, &key).is_ok());
        }
        assert_eq!(spellings, 1);
    }
}

#[test]
fn the_other_ecdsa_signature_is_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let key = SigningKey::generate(Algorithm::Es256, &SystemEntropy).unwrap();
    for _ in 0..16 {
        let good = signed(
            &key,
            header(&key).to_string().as_bytes(),
            claims().to_string().as_bytes(),
        );
        assert!(judge(&good, &key).is_ok());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let mut other = URL_SAFE_NO_PAD.decode(signature).unwrap();
        crate::keys::low_s::negate(&mut other);
        assert!(
            key.public().verifies(message.as_bytes(), &other),
            "mathematically it is good"
        );
        let other = format!("{message}.{}", URL_SAFE_NO_PAD.encode(other));
        assert_eq!(judge(&other, &key), Err(BadSignature));
    }
}

#[test]
fn a_token_over_four_kib_is_not_looked_at() {
    let (key, mut payload) = (key(), claims());
    let long = |payload: &Value| {
        signed(
            &key,
            header(&key).to_string().as_bytes(),
            payload.to_string().as_bytes(),
        )
    };
    payload["ext"] = json!({"a": ""});
    let room = 4096 - long(&payload).len();
    payload["ext"] = json!({"a": "x".repeat(room * 3 / 4)});
    let fits = long(&payload);
    assert!(fits.len() <= 4096 && fits.len() > 4092, "{}", fits.len());
    assert!(judge(&fits, &key).is_ok());
    payload["ext"] = json!({"a": "x".repeat(room * 3 / 4 + 4)});
    assert_eq!(judge(&long(&payload), &key), Err(Malformed));
    assert_eq!(judge(&"x".repeat(10_000_000), &key), Err(Malformed));
}

#[test]
fn a_refresh_token_is_of_the_wrong_type() {
    let key = key();
    assert_eq!(judge("csr_AAAA", &key), Err(WrongType));
    assert_eq!(judge("csr_", &key), Err(WrongType));
    assert_eq!(judge(&format!("csr_{}", "A".repeat(5000)), &key), Err(Malformed));
}

#[test]
fn the_claimed_key_is_told_of_well_formed_tokens_only() {
    let key = key();
    let token = signed(
        &key,
        header(&key).to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    assert_eq!(claimed(&token).map(|claimed| claimed.key).as_ref(), Some(key.id()));
    for other in ["", "csr_AAAA", "a.b.c"] {
        assert_eq!(claimed(other), None);
    }
}
