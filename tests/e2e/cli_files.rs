//! Commands that read files of users and keys, or tokens.

use serde_json::{Value, json};

use crate::cli::{embedded, issue, run, token};
use crate::support::{PASSWORD, Storage};

/// A bcrypt hash of [`PASSWORD`] in the format of libxcrypt.
const BCRYPT: &str = "$2b$04$ou8wi17ShJ.EI7nUcAhdBuNnkBbZgmOB57otUfkgbuW.q359KZN56";

#[tokio::test]
async fn users_of_another_system_are_imported_line_by_line() {
    let storage = embedded().await;
    let hash = BCRYPT;
    let lines = [
        json!({"username": "ada", "roles": ["staff"], "password_hash": hash}).to_string(),
        String::new(),
        "not json".to_owned(),
        json!({"username": "ADA"}).to_string(),
        json!({"username": "eve", "roles": ["admin"]}).to_string(),
        json!({"user": {"username": "bob"}, "password_hash": hash}).to_string(),
    ];
    let file = storage.folder().join("users.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let done = run(&storage, &["user", "import", file.to_str().unwrap()], "");
    assert_eq!(
        done.code(),
        Some(1),
        "rejected lines give a non-zero exit code: {done:?}"
    );
    let said: Vec<&str> = done.stdout.lines().collect();
    assert!(
        said[0].starts_with("line 3: ") && said[1].starts_with("line 4: user.username: "),
        "{said:?}"
    );
    assert!(said[2].starts_with("line 5: user.roles[0]: "), "{said:?}");
    assert_eq!(said[3], "2 imported, 3 rejected");

    let csv = storage.folder().join("more.csv");
    std::fs::write(
        &csv,
        format!("username,password_hash,disabled\ncarol,{hash},\ndan,{hash},true\n"),
    )
    .unwrap();
    let imported = storage.run(&["user", "import", csv.to_str().unwrap()]).json();
    assert_eq!(imported, json!({"imported": 2, "rejected": []}));
    assert_eq!(run(&storage, &["user", "import", "users.xlsx"], "").code(), Some(64));

    let server = storage.serve(&[]);
    for user in ["ada", "bob", "carol"] {
        issue(&storage, &server, user);
    }
    let disabled = token(&storage, &server, &["issue", "--user", "dan"], PASSWORD);
    assert!(disabled.stderr.contains("INVALID_CREDENTIALS"), "{disabled:?}");
}

#[tokio::test]
async fn keys_are_rotated_from_the_command_line() {
    let storage = embedded().await;
    let keys = |storage: &Storage| storage.run(&["key", "list"]).json()["keys"].as_array().unwrap().clone();
    let states = |keys: &[Value]| {
        keys.iter()
            .map(|key| key["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut first = states(&keys(&storage));
    first.sort();
    assert_eq!(first, ["KEY_STATE_ACTIVE", "KEY_STATE_PENDING"]);
    let rotated = storage.run(&["key", "rotate", "--force"]).json();
    assert_eq!(rotated["key"]["state"], "KEY_STATE_ACTIVE");
    let kid = rotated["key"]["keyId"].as_str().unwrap();
    let revoked = storage.run(&["key", "revoke", kid, "--reason", "leaked"]).json();
    assert_eq!(revoked["key"]["state"], "KEY_STATE_REVOKED");
    assert!(
        states(&keys(&storage)).contains(&"KEY_STATE_ACTIVE".to_owned()),
        "the standby key signs"
    );
    assert_eq!(run(&storage, &["key", "revoke", "nonsense"], "").code(), Some(1));
    let resealed = storage.run(&["key", "reseal"]).json();
    assert_eq!(resealed["refused"], json!([]));
}

#[tokio::test]
async fn tokens_can_be_decoded_and_completions_printed() {
    let storage = embedded().await;
    storage.run(&["user", "add", "ada"]).input(PASSWORD).succeed();
    let server = storage.serve(&[]);
    let tokens = issue(&storage, &server, "ada");
    let access = storage
        .run(&["token", "decode"])
        .input(tokens["accessToken"].as_str().unwrap())
        .json();
    assert_eq!(access["header"]["typ"], "at+jwt");
    assert_eq!(access["claims"]["sid"], tokens["sessionId"]);
    let refresh = storage
        .run(&["token", "decode"])
        .input(tokens["refreshToken"].as_str().unwrap())
        .json();
    assert_eq!(
        (&refresh["sessionId"], &refresh["generation"]),
        (&tokens["sessionId"], &json!(0))
    );
    assert_eq!(run(&storage, &["token", "decode"], "nonsense\n").code(), Some(1));

    let script = storage.run(&["completions", "bash"]).succeed();
    assert!(script.contains("rotate-secret"));
    assert!(storage.run(&["man", "user", "add"]).succeed().contains("\\-\\-admin"));
    assert_eq!(run(&storage, &["--version"], "").code(), Some(0));
}
