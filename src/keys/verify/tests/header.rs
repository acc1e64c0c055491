use super::*;

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
