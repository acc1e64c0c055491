//! The README's calls with grpcurl, which knows Countersign only through reflection.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::process::find;
use crate::support::serve::Storage;
use crate::support::{Caller, Countersign, PASSWORD};

fn grpcurl() -> PathBuf {
    let installed = PathBuf::from("target/tools/bin/grpcurl");
    if installed.is_file() {
        return std::fs::canonicalize(installed).unwrap();
    }
    find("grpcurl").expect("grpcurl is not installed: tests/run does that")
}

/// Runs grpcurl with flags, the address, and further arguments.
fn run_grpcurl(server: &Countersign, flags: &[&str], words: &[&str]) -> Output {
    Command::new(grpcurl())
        .arg("-plaintext")
        .args(flags)
        .arg(server.grpc().to_string())
        .args(words)
        .output()
        .unwrap()
}

fn answer(server: &Countersign, flags: &[&str], words: &[&str]) -> String {
    let done = run_grpcurl(server, flags, words);
    assert!(
        done.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

fn call(server: &Countersign, method: &str, request: &Value) -> Value {
    let method = format!("countersign.v1.TokenService/{method}");
    serde_json::from_str(&answer(server, &["-d", &request.to_string()], &[&method])).unwrap()
}

/// The response of grpcurl and of the command line to the same question, without what differs at each call.
fn both(
    server: &Countersign,
    storage: &Storage,
    token: &str,
    method: &str,
    request: &Value,
    words: &[&str],
) -> [Value; 2] {
    let bearer = format!("authorization: Bearer {token}");
    let flags = ["-emit-defaults", "-H", &bearer, "-d", &request.to_string()];
    let grpcurl: Value = serde_json::from_str(&answer(server, &flags, &[method])).unwrap();
    let url = server.grpc_url();
    let at_server = ["--server", &url];
    let words = if words[0] == "token" {
        [words, &at_server].concat()
    } else {
        words.to_vec()
    };
    let printed = storage.run(&words).env("COUNTERSIGN_TOKEN", token).input(token).json();
    [grpcurl, printed].map(|mut answer| {
        for changing in ["revocationsAsOf", "cacheUntil"] {
            answer.as_object_mut().unwrap().remove(changing);
        }
        answer
    })
}

/// The fields of a message that are unset and have no default in JSON are `null` in grpcurl, and absent in the command line.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => fields.retain(|_, field| {
            *field = without_nulls(field.take());
            !field.is_null()
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_nulls(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

#[tokio::test]
async fn the_command_line_prints_the_json_of_grpcurl() {
    let storage = Storage::embedded();
    let server = storage.serve(&["--dev"]);
    storage
        .run(&["user", "add", "ada", "--admin", "--email", "ada@example.org"])
        .input(PASSWORD)
        .succeed();
    storage
        .run(&[
            "user",
            "update",
            "ada",
            "--attributes",
            r#"{"legacy_id": 7, "camelCase": {"snake_case": [1.5]}}"#,
        ])
        .succeed();
    let login = json!({
        "password": {"username": "ada", "password": PASSWORD},
        "scope": ["countersign:users", "countersign:clients", "countersign:keys", "countersign:audit", "countersign:validate"],
    });
    let issued = call(&server, "Issue", &login)["tokens"]["accessToken"].clone();
    let token = issued.as_str().unwrap();
    let v1 = |method: &str| format!("countersign.v1.{method}");
    for (method, request, words) in [
        (
            "TokenService/Validate",
            json!({"accessToken": token}),
            &["token", "validate"][..],
        ),
        (
            "UserService/GetUser",
            json!({"username": "ada"}),
            &["user", "show", "ada"],
        ),
        (
            "ClientService/GetClient",
            json!({"clientId": "default"}),
            &["client", "show", "default"],
        ),
        ("KeyService/ListKeys", json!({}), &["key", "list"]),
        ("AuditService/ListAuditEvents", json!({}), &["audit", "query"]),
    ] {
        let [grpcurl, printed] = both(&server, &storage, token, &v1(method), &request, words);
        assert_eq!(printed, without_nulls(grpcurl), "{words:?}");
    }
    let shown = storage.run(&["user", "show", "ada"]).json();
    assert_eq!(
        shown["user"]["attributes"]["camelCase"]["snake_case"],
        json!([1.5]),
        "{shown}"
    );
    assert!(shown["user"]["displayName"].is_string(), "{shown}");
    // Text has the names of the proto files.
    assert!(storage.run(&["user", "show", "ada"]).succeed().contains("\nemail "));
    let keys = storage.run(&["key", "list"]).succeed();
    assert!(
        keys.starts_with("KEY_ID ") && keys.contains(shown_key(&storage).as_str()),
        "{keys}"
    );
}

fn shown_key(storage: &Storage) -> String {
    let keys = storage.run(&["key", "list"]).json();
    keys["keys"][0]["keyId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn grpcurl_lists_the_services_and_makes_the_calls_of_the_readme() {
    let storage = Storage::embedded();
    let server = storage.serve(&["--dev"]);
    storage
        .run(&["user", "add", "ada"])
        .input(format!("{PASSWORD}\n"))
        .succeed();

    let listed = answer(&server, &[], &["list"]);
    for service in [
        "countersign.v1.AuditService",
        "countersign.v1.ClientService",
        "countersign.v1.KeyService",
        "countersign.v1.TokenService",
        "countersign.v1.UserService",
        "grpc.health.v1.Health",
    ] {
        assert!(
            listed.lines().any(|line| line == service),
            "{service} is not among:\n{listed}"
        );
    }
    let described = answer(&server, &[], &["describe", "countersign.v1.TokenService.Issue"]);
    assert!(described.contains("IssueRequest"), "{described}");

    let login = json!({"password": {"username": "ada", "password": PASSWORD}});
    let first = &call(&server, "Issue", &login)["tokens"];
    assert_eq!(first["tokenType"], "Bearer");
    let valid = call(
        &server,
        "Validate",
        &json!({"access_token": first["accessToken"], "audience": "api"}),
    );
    assert_eq!(
        (&valid["active"], &valid["claims"]["sessionId"]),
        (&json!(true), &first["sessionId"])
    );
    let second = call(&server, "Refresh", &json!({"refresh_token": first["refreshToken"]}));
    assert_eq!(second["outcome"], "REFRESH_OUTCOME_ROTATED");
    let ended = call(&server, "Revoke", &json!({"token": second["tokens"]["refreshToken"]}));
    assert_eq!(ended["sessionsRevoked"], 1);
    let revoked = call(&server, "Validate", &json!({"access_token": first["accessToken"]}));
    assert_eq!(revoked["reason"], "INACTIVE_REASON_REVOKED");
    let request = json!({"refresh_token": second["tokens"]["refreshToken"]}).to_string();
    let again = run_grpcurl(&server, &["-d", &request], &["countersign.v1.TokenService/Refresh"]);
    let complaint = String::from_utf8_lossy(&again.stderr).into_owned();
    // The details are printed by name, because reflection also serves google.rpc.
    for word in [
        "Unauthenticated",
        "google.rpc.ErrorInfo",
        "SESSION_REVOKED",
        "countersign",
    ] {
        assert!(complaint.contains(word), "{word} is not in: {complaint}");
    }
    let caller = Caller::of(&server);
    assert!(
        caller
            .inactive_reason(first["accessToken"].as_str().unwrap())
            .await
            .is_some()
    );
}
