use super::*;
use serde_json::json;

#[test]
fn usernames_do_not_mix_scripts() {
    for good in [
        "ada",
        "ada.lovelace+x@example.org",
        "ада",
        "björn",
        "山田",
        "ada-山田",
        "joão_2",
    ] {
        assert!(username(good, "user.username").is_ok(), "{good}");
    }
    for bad in [
        "\u{430}dmin",
        "p\u{430}ypal",
        "\u{3b1}lpha",
        "a\u{200d}b",
        "ⓐdmin",
        "x\0y",
        "",
    ] {
        let error = username(bad, "user.username").unwrap_err();
        assert_eq!(error.violations[0].field, "user.username", "{bad:?}");
    }
}

#[test]
fn free_text_holds_no_control_characters() {
    assert_eq!(
        text("Ada \u{1f600} Lovelace", "user.display_name").unwrap(),
        "Ada \u{1f600} Lovelace"
    );
    assert_eq!(text("e\u{301}", "user.display_name").unwrap(), "é", "stored as NFC");
    for bad in [
        "a\0",
        "a\r\nb",
        "\u{1b}[31m",
        "\u{7f}",
        "\u{85}",
        "\u{202e}x",
        "\u{2028}",
        &"x".repeat(257),
    ] {
        assert!(text(bad, "user.display_name").is_err(), "{bad:?}");
    }
}

#[test]
fn emails_are_checked_for_their_syntax() {
    for good in [
        "",
        "a@b",
        "ada@example.org",
        "o'brien+tag@sub.example.co.uk",
        "用户@例子.公司",
    ] {
        assert!(email(good, "user.email").is_ok(), "{good}");
    }
    let long_local = format!("{}@example.org", "x".repeat(65));
    let long = format!("x@{}", "a.".repeat(130));
    for bad in [
        "ada",
        "@example.org",
        "ada@",
        "a@b@c",
        "a b@c",
        "a@b c",
        "a@-b",
        "a@b-",
        "a@b..c",
        "a@.b",
        "a@b/c",
        "a\0@b",
        "a\u{202e}@b",
        &long_local,
        &long,
    ] {
        assert!(email(bad, "user.email").is_err(), "{bad:?}");
    }
}

#[test]
fn roles_are_sorted_and_an_error_names_the_bad_one() {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(roles(&list(&["b", "a", "b"]), "user.roles").unwrap(), list(&["a", "b"]));
    for bad in ["", "a b", "é", "a\0", &"x".repeat(65)] {
        let error = roles(&list(&["ok", "fine", bad]), "user.roles").unwrap_err();
        assert_eq!(error.violations[0].field, "user.roles[2]", "{bad:?}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("r{n}")).collect();
    assert_eq!(
        roles(&many, "user.roles").unwrap_err().violations[0].field,
        "user.roles"
    );
}

#[test]
fn attributes_are_small_and_storable() {
    let check = |value: Value| attributes(value.as_object().unwrap(), "user.attributes");
    assert!(check(json!({"department": "R&D", "levels": [1, {"a": null}]})).is_ok());
    let exactly = "x".repeat(1024 - r#"{"a":""}"#.len());
    assert!(check(json!({ "a": exactly })).is_ok());
    assert!(check(json!({ "a": format!("{exactly}x") })).is_err());
    for bad in [json!({"a\0": 1}), json!({"a": ["\0"]}), json!({"a": {"b\0": 1}})] {
        assert!(check(bad.clone()).is_err(), "{bad}");
    }
    let mut deep = json!(1);
    for _ in 0..9 {
        deep = json!([deep]);
    }
    assert!(check(json!({ "a": deep })).is_err());
}

#[test]
fn durations_are_whole_milliseconds_in_range() {
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    let check = |value| duration(value, "client.access_token_ttl", range.clone());
    assert_eq!(check(None).unwrap(), None);
    assert_eq!(
        check(Some(Duration::from_nanos(1_500_999_999))).unwrap(),
        Some(Duration::from_millis(1500))
    );
    for bad in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_secs(86_401),
        Duration::MAX,
    ] {
        let error = check(Some(bad)).unwrap_err();
        assert_eq!(
            error.message,
            "client.access_token_ttl: must be between 1 s and 86400 s"
        );
    }
}
