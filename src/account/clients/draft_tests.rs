use super::*;

fn draft() -> ClientDraft {
    ClientDraft {
        client_id: "web".into(),
        grants: vec![Grant::Exchange, Grant::Password, Grant::Password],
        scopes: vec!["read".into(), "countersign:issue".into()],
        refresh_grace: Some(Duration::ZERO),
        ..ClientDraft::default()
    }
}

#[test]
fn a_valid_draft_becomes_a_client() {
    let client = draft().check(UnixMillis(7)).unwrap();
    assert_eq!(client.grants, [Grant::Password, Grant::Exchange]);
    assert_eq!(
        client.refresh_grace,
        Some(Duration::ZERO),
        "zero is a value of its own, not the configured value"
    );
    assert_eq!((client.created, client.updated), (UnixMillis(7), UnixMillis(7)));
}

type Mutation = fn(&mut ClientDraft);

#[test]
fn every_field_is_checked_and_named() {
    let cases: [(&str, Mutation); 16] = [
        ("client.client_id", |d| d.client_id = "Web".into()),
        ("client.client_id", |d| d.client_id = "a\0b".into()),
        ("client.client_id", |d| {
            d.client_id = "0190b6a8-1111-7000-8000-000000000000".into();
        }),
        ("client.display_name", |d| d.display_name = "a\0".into()),
        ("client.display_name", |d| d.display_name = "x".repeat(257)),
        ("client.audiences[0]", |d| d.audiences = vec!["a b".into()]),
        ("client.audiences[1]", |d| {
            d.audiences = vec!["a".into(), "a\"b".into()];
        }),
        ("client.audiences[0]", |d| d.audiences = vec!["a\\b".into()]),
        ("client.scopes[1]", |d| d.scopes[1] = "a\"b".into()),
        ("client.scopes[0]", |d| d.scopes[0] = "countersign:*".into()),
        ("client.access_token_ttl", |d| {
            d.access_token_ttl = Some(Duration::from_secs(86_401));
        }),
        ("client.access_token_ttl", |d| d.access_token_ttl = Some(Duration::ZERO)),
        ("client.refresh_idle_ttl", |d| d.refresh_idle_ttl = Some(Duration::ZERO)),
        ("client.session_ttl", |d| d.session_ttl = Some(Duration::MAX)),
        ("client.refresh_grace", |d| {
            d.refresh_grace = Some(Duration::from_secs(301));
        }),
        ("client.max_sessions_per_user", |d| d.max_sessions_per_user = 10_001),
    ];
    for (field, mutate) in cases {
        let mut draft = draft();
        mutate(&mut draft);
        let error = draft.check(UnixMillis(0)).unwrap_err();
        assert_eq!(error.violations[0].field, field, "{error}");
    }
}

#[test]
fn only_the_fields_of_the_mask_are_checked_and_changed() {
    let mut draft = draft();
    draft.display_name = "a\0 bad name that the mask leaves out".into();
    let change = draft.change(&["session_ttl".into(), "disabled".into()]).unwrap();
    let expected = ClientChange {
        session_ttl: Some(None),
        disabled: Some(false),
        ..ClientChange::default()
    };
    assert_eq!(change, expected, "an unset duration goes back to the configured value");
    for mask in [
        vec![],
        vec!["client_id".into()],
        vec!["scopes".into(), "*".into()],
        vec!["Scopes".into()],
    ] {
        let error = draft.change(&mask).unwrap_err();
        assert_eq!(error.violations[0].field, "update_mask", "{mask:?}");
    }
    for path in PATHS {
        let valid = ClientDraft {
            display_name: String::new(),
            ..draft.clone()
        };
        assert_ne!(valid.change(&[path.into()]).unwrap(), ClientChange::default(), "{path}");
    }
}
