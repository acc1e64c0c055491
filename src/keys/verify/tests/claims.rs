use super::*;

#[test]
fn rfc9068_2_2_required_claims_are_there_and_of_the_right_type() {
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti", "epo"] {
        for value in [Value::Null, json!(true), json!({}), json!([1]), json!(1.5), json!("")] {
            let expected = match (name, &value) {
                ("iss", Value::String(_)) => WrongIssuer,
                ("aud", Value::String(_)) => continue, // the audience "", which no service has
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
