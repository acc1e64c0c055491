//! Malicious text: too long, visually confusable, or with a meaning to a store, a log or a terminal.

use countersign::proto::issue_request::Credential;
use countersign::proto::{
    Client, CreateClientRequest, CreateUserRequest, GetUserRequest, Grant, IssueRequest, ListAuditEventsRequest,
    ListUsersRequest, PasswordCredential, RefreshRequest, RevokeRequest, SessionContext, SetPasswordRequest,
    UpdateUserRequest, User, ValidateRequest, get_user_request, revoke_request,
};
use rstest::rstest;
use tonic::{Code, Status};

use crate::support::caller::reason;
use crate::support::{Admin, Caller, Deployment, DeploymentKind, PASSWORD, assert_refused};

#[tokio::test(flavor = "multi_thread")]
async fn passwords_count_to_their_last_byte_and_are_bounded() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    for (size, code) in [
        (1, Code::Unauthenticated),
        (64, Code::Unauthenticated),
        (1023, Code::Unauthenticated),
        (1024, Code::Unauthenticated),
        (1025, Code::InvalidArgument),
        (60_000, Code::InvalidArgument),
        (5 * 1024 * 1024, Code::OutOfRange),
    ] {
        let refused = caller.issue("ada", &"p".repeat(size)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{size} bytes: {refused:?}");
        assert!(!refused.message().contains("ppp"));
    }
    // The last byte counts: the password is not truncated.
    let long = format!("{} correct horse battery", "long words ".repeat(92));
    let long = &long[..1024];
    let set = SetPasswordRequest {
        user_id: ada,
        new_password: long.into(),
    };
    admin.users.clone().set_password(set).await.unwrap();
    caller.issue("ada", long).await.unwrap();
    let other = format!("{}!", &long[..1023]);
    assert_refused(
        caller.issue("ada", &other).await,
        Code::Unauthenticated,
        "INVALID_CREDENTIALS",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn equivalent_unicode_passwords_match_and_equivalent_usernames_collide() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let ada = admin.user("ada").await.unwrap().user_id;
    let (composed, decomposed) = (
        "sch\u{f6}ne gr\u{fc}ne W\u{e4}lder",
        "scho\u{308}ne gru\u{308}ne Wa\u{308}lder",
    );
    let set = |text: &str| SetPasswordRequest {
        user_id: ada.clone(),
        new_password: text.into(),
    };
    for (one, other) in [(composed, decomposed), (decomposed, composed)] {
        admin.users.clone().set_password(set(one)).await.unwrap();
        caller.issue("ada", one).await.unwrap();
        caller.issue("ada", other).await.unwrap();
    }
    for same in ["Ada", "ADA", "\u{ff41}\u{ff44}\u{ff41}", "A\u{44}a"] {
        assert_refused(admin.user(same).await, Code::AlreadyExists, "USER_EXISTS");
        caller.issue(same, composed).await.expect("it is the same username");
    }
    let jose = admin.user("Jose\u{301}").await.unwrap();
    assert_eq!(jose.username, "jos\u{e9}");
    assert_refused(admin.user("jos\u{e9}").await, Code::AlreadyExists, "USER_EXISTS");
    for bad in [
        "",
        " ",
        "a b",
        "a\0b",
        "a\r\nFLUSHALL",
        "\u{202e}ada",
        "ad\u{200b}a",
        "a\u{feff}",
        "\u{1b}[2J",
        "ad\u{430}", // a Cyrillic letter among Latin ones
        &"x".repeat(129),
    ] {
        assert_refused(admin.user(bad).await, Code::InvalidArgument, "INVALID_REQUEST");
    }
}

/// The Big List of Naughty Strings, and strings with a meaning to our own stores, logs and formats.
fn hostile_strings() -> Vec<String> {
    let list = include_str!("../vectors/strings/blns.json");
    let mut strings: Vec<String> = serde_json::from_str(list).unwrap();
    strings.extend(
        [
            "a\r\nFLUSHALL\r\n",
            "*3\r\n$3\r\nDEL\r\n",
            "{tag}",
            "a}{b",
            "*",
            "?",
            "'; DROP TABLE users; --",
            "$1",
            "%s%n",
            "nul\0inside",
            "\u{1b}]0;title\u{7}\u{1b}[31mred",
            "\u{2028}\u{2029}\u{85}",
            "\u{fff9}\u{e0001}\u{10ffff}",
            "\"},{\"level\":\"ERROR\"",
        ]
        .map(str::to_owned),
    );
    strings
}

/// Asserts that the answer is a success or an expected client error with a reason.
fn assert_sane<T>(what: &str, text: &str, answer: &Result<T, Status>) {
    let Err(status) = answer else { return };
    let (code, why) = reason(status);
    assert!(
        matches!(
            code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::Unauthenticated
                | Code::PermissionDenied
        ) && !why.is_empty(),
        "{what} {text:?}: {status:?}"
    );
}

/// Sends the text in every field of a user.
async fn send_in_users(admin: &Admin, ada: &str, text: &str) {
    let t = || text.to_owned();
    let user = |user: User| CreateUserRequest {
        user: Some(user),
        password: PASSWORD.into(),
    };
    let named = User {
        username: t(),
        ..User::default()
    };
    let made = admin.users.clone().create_user(user(named)).await;
    assert_sane("a name", text, &made);
    if let Ok(made) = made {
        // An accepted username is found again, as it was sent and in its stored form.
        let made = made.into_inner().user.unwrap();
        for name in [t(), made.username.clone()] {
            let key = Some(get_user_request::Key::Username(name));
            let found = admin.users.clone().get_user(GetUserRequest { key }).await.unwrap();
            assert_eq!(found.into_inner().user.unwrap().user_id, made.user_id, "{text:?}");
        }
    }
    for (what, path, changed) in [
        (
            "an e-mail",
            "email",
            User {
                email: t(),
                ..User::default()
            },
        ),
        (
            "a display name",
            "display_name",
            User {
                display_name: t(),
                ..User::default()
            },
        ),
        (
            "a role",
            "roles",
            User {
                roles: vec![t()],
                ..User::default()
            },
        ),
        ("a path", text, User::default()),
        (
            "an attribute",
            "attributes",
            User {
                attributes: Some(prost_types::Struct {
                    fields: [(
                        t(),
                        prost_types::Value {
                            kind: Some(prost_types::value::Kind::StringValue(t())),
                        },
                    )]
                    .into(),
                }),
                ..User::default()
            },
        ),
    ] {
        let update = UpdateUserRequest {
            user: Some(User {
                user_id: ada.to_owned(),
                ..changed
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![path.to_owned()],
            }),
        };
        assert_sane(what, text, &admin.users.clone().update_user(update).await);
    }
    let update = UpdateUserRequest {
        user: Some(User {
            user_id: t(),
            ..User::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["email".into()],
        }),
    };
    assert_sane("an id", text, &admin.users.clone().update_user(update).await);
}

/// Sends the text in every field of a client and of every list call.
async fn send_in_clients_and_lists(admin: &Admin, text: &str) {
    let t = || text.to_owned();
    let list = ListUsersRequest {
        query: t(),
        ..Default::default()
    };
    assert_sane("a query", text, &admin.users.clone().list_users(list).await);
    let list = ListUsersRequest {
        page_token: t(),
        ..Default::default()
    };
    assert_sane("a page token", text, &admin.users.clone().list_users(list).await);
    let client = Client {
        client_id: t(),
        display_name: t(),
        grants: vec![Grant::Password.into()],
        scopes: vec![t()],
        audiences: vec![t()],
        ..Client::default()
    };
    let create = CreateClientRequest { client: Some(client) };
    assert_sane("a client", text, &admin.clients.clone().create_client(create).await);
    let list = ListAuditEventsRequest {
        subject: t(),
        r#type: t(),
        ..Default::default()
    };
    assert_sane("a subject", text, &admin.audit.clone().list_audit_events(list).await);
}

/// Sends the text in every field of the token calls.
async fn send_in_token_calls(admin: &Admin, text: &str) {
    let t = || text.to_owned();
    let login = |username: &str, password: &str, context: SessionContext| IssueRequest {
        credential: Some(Credential::Password(PasswordCredential {
            username: username.into(),
            password: password.into(),
        })),
        context: Some(context),
        ..Default::default()
    };
    let context = SessionContext {
        user_agent: t(),
        ip_address: t(),
        device_name: t(),
    };
    let issued = admin.tokens.clone().issue(login("ada", PASSWORD, context)).await;
    assert!(
        issued.is_ok(),
        "a context is truncated, never refused: {text:?} {issued:?}"
    );
    for (name, password) in [(text, PASSWORD), ("ada", text)] {
        let refused = admin
            .tokens
            .clone()
            .issue(login(name, password, SessionContext::default()))
            .await;
        assert_sane("a login", text, &refused);
    }
    let narrow = IssueRequest {
        scope: vec![t()],
        audience: vec![t()],
        client_id: t(),
        ..login("ada", PASSWORD, SessionContext::default())
    };
    assert_sane("a scope", text, &admin.tokens.clone().issue(narrow).await);
    let refresh = RefreshRequest {
        refresh_token: t(),
        attempt_id: t(),
        ..Default::default()
    };
    assert_sane("a refresh token", text, &admin.tokens.clone().refresh(refresh).await);
    let validate = ValidateRequest {
        access_token: t(),
        audience: t(),
        required_scopes: vec![t()],
        ..Default::default()
    };
    assert_sane("an access token", text, &admin.tokens.clone().validate(validate).await);
    for target in [
        revoke_request::Target::Token(t()),
        revoke_request::Target::SessionId(t()),
        revoke_request::Target::UserId(t()),
    ] {
        let revoke = RevokeRequest {
            target: Some(target),
            reason: t(),
            ..Default::default()
        };
        assert_sane("a revocation", text, &admin.tokens.clone().revoke(revoke).await);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_hostile_string_breaks_a_call_a_store_or_the_log(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("telemetry.log_format", "json")
        .set("telemetry.log_filter", "debug");
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let session = caller.login("ada").await;
    // The full list on the fast embedded store, every fourth string elsewhere.
    let step = if deployment_kind == DeploymentKind::Embedded {
        1
    } else {
        4
    };
    for text in hostile_strings().into_iter().rev().step_by(step) {
        send_in_users(&admin, &ada, &text).await;
        send_in_clients_and_lists(&admin, &text).await;
        send_in_token_calls(&admin, &text).await;
    }
    caller
        .refresh(&session.refresh_token)
        .await
        .expect("the session is unaffected");
    let users = admin
        .users
        .clone()
        .list_users(ListUsersRequest::default())
        .await
        .unwrap();
    assert!(!users.into_inner().users.is_empty());
    let log = server.log();
    assert!(!log.contains('\u{1b}'), "the log contains an escape character");
    let (events, greeting): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with('{'));
    assert!(events.len() > 500 && greeting.len() < 20, "{greeting:?}");
    for line in events {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    }
    if let Some(keys) = &deployment.keys {
        let hexadecimal = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        for key in keys.keys() {
            let own = key.strip_prefix(keys.prefix()).unwrap();
            let known = [":revocations", ":sides"].contains(&own)
                || own.starts_with(":counter:{")
                || own
                    .strip_prefix(":s:{")
                    .and_then(|id| id.strip_suffix('}'))
                    .is_some_and(hexadecimal)
                || own.strip_prefix(":t:").is_some_and(hexadecimal)
                || own.strip_prefix(":r:").is_some_and(hexadecimal);
            assert!(known, "{key:?}");
        }
    }
}
