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
