//! `token watch`, which follows revocations until the server ends, and the shell completions.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::cli::{embedded, issue, token};
use crate::support::guard::{self, Ending};
use crate::support::{PASSWORD, Process, poll};

/// Longer than an event and a heartbeat take.
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn token_watch_prints_revocations_until_the_server_ends() {
    let storage = embedded().await;
    storage.run(&["user", "add", "ada"]).input(PASSWORD).succeed();
    let server = storage.serve(&[]);
    let url = server.grpc_url();
    let tokens = issue(&storage, &server, "ada");
    let own = guard::scratch("watch");
    let watch = |output: &str| {
        let mut command = storage.command();
        command.args(["token", "watch", "--server", &url, "--output", output]);
        Process::spawn(&mut command, &own.join(output), Ending::Kill)
    };
    let [mut json, mut text] = ["json", "text"].map(watch);
    // The JSON output has heartbeats: the first one shows that the stream has begun.
    let lines = |process: &Process| -> Vec<Value> {
        let said = process.log();
        said.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    let beat = || {
        lines(&json)
            .iter()
            .any(|line| line.get("heartbeat").is_some())
            .then_some(())
    };
    assert!(poll(TIMEOUT, beat).is_some(), "no heartbeat: {}", json.log());

    let revoked = token(&storage, &server, &["revoke"], tokens["accessToken"].as_str().unwrap());
    assert_eq!(revoked.code(), Some(0), "{revoked:?}");
    let session = tokens["sessionId"].as_str().unwrap();
    for process in [&json, &text] {
        let printed = || process.log().lines().any(|line| line.contains(session)).then_some(());
        assert!(
            poll(TIMEOUT, printed).is_some(),
            "no revocation of {session}: {}",
            process.log()
        );
    }
    assert!(
        !text.log().contains("heartbeat"),
        "the text output has no heartbeats: {}",
        text.log()
    );

    drop(server);
    for process in [&mut json, &mut text] {
        let status = process.wait(TIMEOUT);
        assert_eq!(status.code(), Some(69), "{}", process.log());
    }
    guard::discard(&own);
}

#[tokio::test]
async fn completions_are_valid_scripts_of_each_shell() {
    let storage = embedded().await;
    for (shell, own) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef countersign"),
        ("fish", "complete -c countersign"),
        ("elvish", "edit:completion:arg-completer[countersign]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = storage.run(&["completions", shell]).succeed();
        assert!(
            script.contains(own) && script.contains("rotate-secret"),
            "{shell}: {script}"
        );
        // If the shell is installed, it parses the script without running it.
        let Some(program) = crate::support::process::find(shell) else {
            continue;
        };
        if matches!(shell, "bash" | "zsh" | "fish") {
            let folder = guard::scratch("shell");
            std::fs::write(folder.join("script"), &script).unwrap();
            let read = Command::new(program)
                .arg("-n")
                .arg(folder.join("script"))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(read.status.success(), "{shell}: {read:?}");
            guard::discard(&folder);
        }
    }
}
