//! The command line: names, exit codes, sources of secrets, and JSON output.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Countersign, Deployment, DeploymentKind, Finished, PASSWORD, Storage, poll};

/// Longer than another process takes to learn of a revocation.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn embedded() -> Storage {
    Deployment::fresh(DeploymentKind::Embedded).await.storage
}

pub(crate) fn run(storage: &Storage, words: &[&str], input: &str) -> Finished {
    storage.run(words).input(input).finish()
}

/// Runs `countersign token …` against this server.
pub(crate) fn token(storage: &Storage, server: &Countersign, words: &[&str], input: &str) -> Finished {
    let url = server.grpc_url();
    let words = [&["token"], words, &["--server", &url, "--output", "json"]].concat();
    run(storage, &words, input)
}

pub(crate) fn read(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

pub(crate) fn issue(storage: &Storage, server: &Countersign, user: &str) -> Value {
    let issued = token(storage, server, &["issue", "--user", user], &format!("{PASSWORD}\n"));
    assert_eq!(issued.code(), Some(0), "{issued:?}");
    read(&issued)["tokens"].clone()
}

fn is_active(storage: &Storage, server: &Countersign, token_text: &Value) -> bool {
    let answer = token(storage, server, &["validate"], token_text.as_str().unwrap());
    let active = read(&answer)["active"].as_bool().unwrap();
    assert_eq!(
        answer.code(),
        Some(i32::from(!active)),
        "the exit code tells whether the token is active"
    );
    active
}

#[tokio::test]
async fn exit_codes_distinguish_usage_errors_outages_and_refusals() {
    let storage = embedded().await;
    for words in [
        &[][..],
        &["frobnicate"],
        &["user"],
        &["user", "add"],
        &["user", "add", "ada", "--password", "hunter2"],
        &["client", "add", "web", "--grant", "magic"],
        &["client", "update", "default"],
        &["token", "validate", "--server", "not a url"],
        &["serve", "--config", "/nonexistent/countersign.toml"],
        &["serve", "--listen", "0.0.0.0:0"],
    ] {
        let done = run(&storage, words, "x\n");
        assert_eq!(done.code(), Some(64), "{words:?}: {done:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{words:?}: {done:?}");
        assert!(!done.stderr.contains('\u{1b}'), "colours are for terminals: {words:?}");
    }
    let unknown_user = run(&storage, &["user", "show", "nobody"], "");
    assert_eq!(unknown_user.code(), Some(1), "{unknown_user:?}");
    assert_eq!(unknown_user.stderr.lines().count(), 1, "{unknown_user:?}");

    let away = run(
        &storage,
        &["token", "validate", "--server", "http://127.0.0.1:1"],
        "x\n",
    );
    assert_eq!(away.code(), Some(69), "{away:?}");
    assert!(
        away.stderr.contains("http://127.0.0.1:1") && away.stderr.contains("serve"),
        "{away:?}"
    );
    let clustered = Storage::clustered("postgres://127.0.0.1:1/none", "redis://127.0.0.1:1", "none");
    let down = run(&clustered, &["user", "list"], "");
    assert_eq!((down.code(), down.stderr.lines().count()), (Some(69), 1), "{down:?}");
}

#[tokio::test]
async fn the_printed_defaults_are_a_valid_configuration() {
    let storage = embedded().await;
    let defaults = storage.run(&["config", "default"]).succeed();
    let file = storage.folder().join("countersign.toml");
    std::fs::write(&file, &defaults).unwrap();
    let file = file.to_str().unwrap();
    storage.run(&["config", "check", "--config", file]).succeed();
    let shown = storage.run(&["config", "show", "--config", file]).succeed();
    assert!(
        shown.contains("min_length = 15") && shown.contains("countersign.toml"),
        "{shown}"
    );
    std::fs::write(file, "[tokens]\nacces_ttl = \"5m\"\n").unwrap();
    let refused = run(&storage, &["config", "check", "--config", file], "");
    assert_eq!(refused.code(), Some(64), "{refused:?}");
    assert!(
        refused.stderr.contains("access_ttl"),
        "the error suggests the correct key: {refused:?}"
    );
}

#[tokio::test]
async fn passwords_come_from_a_line_or_a_file_and_never_from_an_argument() {
    let storage = embedded().await;
    let ada = run(
        &storage,
        &["user", "add", "ada"],
        &format!("{PASSWORD}\r\nnot the password\n"),
    );
    assert_eq!(ada.code(), Some(0), "{ada:?}");
    let file = storage.folder().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let bob = ["user", "add", "bob", "--password-file", file.to_str().unwrap()];
    assert_eq!(run(&storage, &bob, "not this\n").code(), Some(0));
    for (words, input, code) in [
        (&["user", "add", "eve"][..], "", 64),
        (&["user", "add", "eve"], "\n", 64),
        (&["user", "add", "eve"], "short\n", 1),
        (&["user", "add", "eve", "--password-file", "/nonexistent"], "x", 64),
    ] {
        let refused = run(&storage, words, input);
        assert_eq!(refused.code(), Some(code), "{refused:?}");
    }
    let server = storage.serve(&[]);
    for user in ["ada", "bob"] {
        issue(&storage, &server, user);
    }
    let wrong = token(&storage, &server, &["issue", "--user", "ada"], "not the password\n");
    assert_eq!(wrong.code(), Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("INVALID_CREDENTIALS"), "{wrong:?}");
}

#[tokio::test]
async fn commands_work_on_the_store_while_a_server_runs() {
    let storage = embedded().await;
    let server = storage.serve(&[]);
    let second = storage.try_serve(&[]).expect_err("one server per data folder");
    assert!(second.stderr.contains("serve"), "{second:?}");

    let made = storage
        .run(&["user", "add", "Ada", "--admin", "--role", "staff"])
        .input(PASSWORD)
        .json();
    assert_eq!(made["user"]["username"], "ada");
    assert_eq!(made["user"]["roles"], json!(["admin", "staff"]));
    let tokens = issue(&storage, &server, "ada");
    assert!(is_active(&storage, &server, &tokens["accessToken"]));

    let listed = storage.run(&["session", "list", "ada"]).json();
    assert_eq!(listed["sessions"][0]["sessionId"], tokens["sessionId"]);
    let session = tokens["sessionId"].as_str().unwrap();
    storage
        .run(&["session", "revoke", session, "--reason", "lost phone"])
        .succeed();
    let gone = poll(PROPAGATION_TIMEOUT, || {
        (!is_active(&storage, &server, &tokens["accessToken"])).then_some(())
    });
    assert!(gone.is_some(), "the server learns of a revocation made by a command");
    let refused = token(
        &storage,
        &server,
        &["refresh"],
        tokens["refreshToken"].as_str().unwrap(),
    );
    assert!(
        refused.code() == Some(1) && refused.stderr.contains("SESSION_REVOKED"),
        "{refused:?}"
    );
    assert_eq!(storage.run(&["session", "list", "ada"]).json()["sessions"], json!([]));

    let again = issue(&storage, &server, "ada");
    let updated = storage
        .run(&["user", "update", "ada", "--no-admin", "--email", "ada@example.org"])
        .json();
    assert_eq!(updated["user"]["roles"], json!(["staff"]));
    let gone = poll(PROPAGATION_TIMEOUT, || {
        (!is_active(&storage, &server, &again["accessToken"])).then_some(())
    });
    assert!(gone.is_some(), "losing the admin role revokes the user's sessions");

    storage.run(&["user", "disable", "ada"]).succeed();
    let disabled = token(&storage, &server, &["issue", "--user", "ada"], PASSWORD);
    assert!(disabled.stderr.contains("INVALID_CREDENTIALS"), "{disabled:?}");
    storage.run(&["user", "enable", "ada"]).succeed();
    storage
        .run(&["user", "passwd", "ada"])
        .input("another long sentence to know\n")
        .succeed();
    let old = token(&storage, &server, &["issue", "--user", "ada"], PASSWORD);
    assert_eq!(old.code(), Some(1), "{old:?}");
    storage.run(&["user", "delete", "ada"]).succeed();
    let users = storage.run(&["user", "list"]).json();
    assert_eq!(users, json!({"users": [], "nextPageToken": ""}));

    let trail = storage.run(&["audit", "query", "--type", "user.*"]).json();
    let kinds: Vec<&str> = trail["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .collect();
    let expected = [
        "user.deleted",
        "user.password.set",
        "user.enabled",
        "user.disabled",
        "user.updated",
        "user.created",
    ];
    assert_eq!(kinds, expected);
    assert!(
        trail["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["actor"] == "cli")
    );
}

#[tokio::test]
async fn a_client_is_added_and_calls_with_its_secret() {
    let storage = embedded().await.set("server.anonymous_scopes", "");
    storage.run(&["user", "add", "ada"]).input(PASSWORD).succeed();
    let server = storage.serve(&[]);
    let scope = "countersign:issue";
    let words = [
        "client",
        "add",
        "gateway",
        "--grant",
        "client_secret",
        "--scope",
        scope,
        "--access-token-ttl",
        "5m",
    ];
    let made = storage.run(&words).json();
    assert_eq!(made["client"]["accessTokenTtl"], "300s");
    let secret = made["clientSecret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("css_"));

    let machine = |secret: &str| {
        token(
            &storage,
            &server,
            &["issue", "--client", "gateway", "--scope", scope],
            secret,
        )
    };
    let issued = machine(&secret);
    assert_eq!(issued.code(), Some(0), "{issued:?}");
    let own = read(&issued)["tokens"]["accessToken"].as_str().unwrap().to_owned();
    let url = server.grpc_url();
    let login = ["token", "issue", "--user", "ada", "--server", &url];
    let anonymous = storage.run(&login).input(PASSWORD).finish();
    assert_eq!(anonymous.code(), Some(1), "{anonymous:?}");
    assert!(
        anonymous.stderr.contains("COUNTERSIGN_TOKEN"),
        "the error says what to do: {anonymous:?}"
    );
    storage
        .run(&login)
        .input(PASSWORD)
        .env("COUNTERSIGN_TOKEN", &own)
        .succeed();

    let rotated = storage
        .run(&["client", "rotate-secret", "gateway", "--overlap", "0"])
        .json();
    let old = machine(&secret);
    assert!(old.stderr.contains("INVALID_CREDENTIALS"), "{old:?}");
    assert_eq!(machine(rotated["clientSecret"].as_str().unwrap()).code(), Some(0));
    let refused = poll(PROPAGATION_TIMEOUT, || {
        let done = storage
            .run(&login)
            .input(PASSWORD)
            .env("COUNTERSIGN_TOKEN", &own)
            .finish();
        (done.code() == Some(1)).then_some(())
    });
    assert!(
        refused.is_some(),
        "a rotation without overlap revokes the tokens of the old secret"
    );

    let updated = storage
        .run(&[
            "client",
            "update",
            "gateway",
            "--disable",
            "--unset",
            "access_token_ttl",
        ])
        .json();
    assert_eq!(updated["client"]["disabled"], true);
    assert_eq!(updated["client"].get("accessTokenTtl"), None);
    let ids = storage.run(&["client", "list"]).json();
    let ids: Vec<&Value> = ids["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|client| &client["clientId"])
        .collect();
    assert_eq!(ids, ["default", "gateway"]);
    storage.run(&["client", "delete", "gateway"]).succeed();
    assert_eq!(run(&storage, &["client", "show", "gateway"], "").code(), Some(1));
}
