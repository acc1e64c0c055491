//! No secret is recorded anywhere. Every log is at its most verbose level, and every call that takes or returns a
//! secret is made, with good and bad ones. Then no secret is in the log, the metrics, the traces, the audit trail, an
//! error, PostgreSQL's log of all statements, Redis' slow log or a dump of either store, and the process leaves no
//! core dump.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use countersign::proto::issue_request::Credential;
use countersign::proto::{
    BeginPasswordResetRequest, ChangePasswordRequest, ClientSecretCredential, CompletePasswordResetRequest,
    CreateUserRequest, ExchangeCredential, Grant, ImportUsersRequest, PasswordCredential, RefreshRequest,
    RevokeRequest, RotateClientSecretRequest, SetPasswordRequest, Tokens, User, ValidateRequest, revoke_request,
};
use nix::sys::signal::Signal;
use tonic::Status;

use crate::support::caller::{refresh_bytes, session_secret};
use crate::support::collector::Collector;
use crate::support::deployment::{add_user, for_tests};
use crate::support::guard::{self, Ending};
use crate::support::raw::with_bearer;
use crate::support::secrets::{Secrets, assert_holds_none};
use crate::support::serve::Storage;
use crate::support::web::get;
use crate::support::{Admin, PASSWORD, Process, Servers, eventually, poll};

/// A refused secret must not be recorded either: it may be a mistyped good one.
const WRONG: &str = "canary-wrong-3f9d21c07be5";
const NEW: &str = "canary sentence of quite new words";
const NEWER: &str = "canary sentence of newer words yet";
const NEWEST: &str = "canary sentence of the newest words";

fn remember_tokens(secrets: &mut Secrets, tokens: &Tokens) {
    secrets.push(("an access token", tokens.access_token.clone().into_bytes()));
    if !tokens.refresh_token.is_empty() {
        secrets.push(("a refresh token", tokens.refresh_token.clone().into_bytes()));
        secrets.push(("a refresh token's bytes", refresh_bytes(&tokens.refresh_token)));
        secrets.push(("a session secret", session_secret(&tokens.refresh_token)));
    }
}

fn password(username: &str, password: &str) -> Credential {
    Credential::Password(PasswordCredential {
        username: username.into(),
        password: password.into(),
    })
}

/// Makes every call that takes or returns a secret. Returns the secrets and all errors.
#[expect(clippy::too_many_lines, reason = "one call after the other")]
async fn use_every_secret(admin: &Admin) -> (Secrets, Vec<Status>) {
    let mut secrets: Secrets = vec![
        ("the password", PASSWORD.into()),
        ("a wrong secret", WRONG.into()),
        ("a new password", NEW.into()),
        ("a newer password", NEWER.into()),
        ("the newest password", NEWEST.into()),
    ];
    let mut errors = Vec::new();
    let user = CreateUserRequest {
        user: Some(User {
            username: "eve".into(),
            ..User::default()
        }),
        password: NEW.into(),
    };
    let eve = admin
        .users
        .clone()
        .create_user(user.clone())
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap()
        .user_id;
    errors.push(admin.users.clone().create_user(user).await.unwrap_err());
    let weak = CreateUserRequest {
        user: Some(User {
            username: "weak".into(),
            ..User::default()
        }),
        password: "canary".into(),
    };
    errors.push(admin.users.clone().create_user(weak).await.unwrap_err());

    let own = admin.issue("", password("eve", NEW), &[], &[]).await.unwrap();
    remember_tokens(&mut secrets, &own);
    for (name, wrong) in [("eve", WRONG), ("nobody", WRONG)] {
        errors.push(admin.issue("", password(name, wrong), &[], &[]).await.unwrap_err());
    }
    for (old, new) in [(WRONG, NEWER), (NEW, "canary"), (NEW, NEWER)] {
        let request = ChangePasswordRequest {
            user_id: eve.clone(),
            old_password: old.into(),
            new_password: new.into(),
            ..Default::default()
        };
        let done = admin
            .users
            .clone()
            .change_password(with_bearer(request, &own.access_token))
            .await;
        errors.extend(done.err());
    }
    let set = SetPasswordRequest {
        user_id: eve.clone(),
        new_password: NEWEST.into(),
    };
    admin.users.clone().set_password(set).await.unwrap();
    let begun = BeginPasswordResetRequest { user_id: eve };
    let reset = admin
        .users
        .clone()
        .begin_password_reset(begun)
        .await
        .unwrap()
        .into_inner()
        .reset_token;
    secrets.push(("a reset token", reset.clone().into_bytes()));
    for token in [format!("{reset}x"), format!("csp_{}", "A".repeat(43)), reset] {
        let complete = CompletePasswordResetRequest {
            reset_token: token,
            new_password: NEW.into(),
        };
        errors.extend(admin.users.clone().complete_password_reset(complete).await.err());
    }
    let hash = "canary-of-a-hash-$argon2id$v=19$m=9";
    secrets.push(("an imported hash that was refused", hash.into()));
    let import = ImportUsersRequest {
        user: Some(User {
            username: "imported".into(),
            ..User::default()
        }),
        password_hash: hash.into(),
    };
    let done = admin
        .users
        .clone()
        .import_users(futures_util::stream::iter([import]))
        .await
        .unwrap()
        .into_inner();
    assert!(!format!("{done:?}").contains("canary"), "{done:?}");

    let grants = [Grant::ClientSecret, Grant::Exchange];
    let secret = admin.client("robot", &grants, &["*"], &["*"]).await;
    secrets.push(("a client's secret", secret.clone().into_bytes()));
    let issue_with_secret = admin
        .issue_with_secret("robot", &secret, &[], &["countersign"])
        .await
        .unwrap();
    remember_tokens(&mut secrets, &issue_with_secret);
    let wrong = Credential::ClientSecret(ClientSecretCredential { secret: WRONG.into() });
    errors.push(admin.issue("robot", wrong, &[], &[]).await.unwrap_err());
    let rotate = RotateClientSecretRequest {
        client_id: "robot".into(),
        ..Default::default()
    };
    let rotated = admin
        .clients
        .clone()
        .rotate_client_secret(rotate)
        .await
        .unwrap()
        .into_inner()
        .client_secret;
    secrets.push(("a rotated secret", rotated.into_bytes()));

    let session = admin.issue("", password("eve", NEW), &[], &[]).await.unwrap();
    remember_tokens(&mut secrets, &session);
    for (subject, actor) in [
        (&session.access_token, &issue_with_secret.access_token),
        (&WRONG.to_owned(), &issue_with_secret.access_token),
    ] {
        let exchange = Credential::Exchange(ExchangeCredential {
            subject_token: subject.clone(),
            actor_token: actor.clone(),
        });
        match admin.issue("", exchange, &[], &[]).await {
            Ok(tokens) => remember_tokens(&mut secrets, &tokens),
            Err(error) => errors.push(error),
        }
    }
    let refresh = async |token: &str, errors: &mut Vec<Status>| {
        let request = RefreshRequest {
            refresh_token: token.into(),
            attempt_id: "one".into(),
            ..Default::default()
        };
        let done = admin.tokens.clone().refresh(request).await;
        done.map_err(|error| errors.push(error))
            .ok()
            .and_then(|done| done.into_inner().tokens)
    };
    let next = refresh(&session.refresh_token, &mut errors).await.unwrap();
    remember_tokens(&mut secrets, &next);
    let last = refresh(&next.refresh_token, &mut errors).await.unwrap();
    remember_tokens(&mut secrets, &last);
    for bad in [WRONG, session.refresh_token.as_str(), session.access_token.as_str()] {
        assert!(refresh(bad, &mut errors).await.is_none());
    }
    for token in [WRONG, session.access_token.as_str(), last.refresh_token.as_str()] {
        let request = ValidateRequest {
            access_token: token.into(),
            ..Default::default()
        };
        errors.extend(admin.tokens.clone().validate(request).await.err());
        let request = RevokeRequest {
            target: Some(revoke_request::Target::Token(token.into())),
            ..Default::default()
        };
        errors.extend(admin.tokens.clone().revoke(with_bearer(request, token)).await.err());
    }
    (secrets, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_recorded_in_logs_stores_metrics_or_traces() {
    let options = [
        "--slowlog-log-slower-than",
        "0",
        "--slowlog-max-len",
        "100000",
        "--appendonly",
        "yes",
    ];
    let collector = Collector::start();
    let servers = Servers::start(&options)
        .await
        .set("telemetry.otlp_endpoint", &format!("http://{}", collector.address))
        .set("telemetry.log_filter", "trace")
        .set("telemetry.log_format", "json");
    let server = servers.serve().await;
    let admin = Admin::of(&server);
    let (secrets, errors) = use_every_secret(&admin).await;

    assert!(errors.len() > 10, "{errors:?}");
    for error in &errors {
        let said = format!("{error:?} {:?} {:?}", error.details(), error.metadata());
        assert_holds_none("an error", said.as_bytes(), &secrets);
    }
    let events = admin.events("").await;
    assert!(events.len() > 15, "{}", events.len());
    assert_holds_none("the audit trail", format!("{events:?}").as_bytes(), &secrets);
    assert_holds_none("/metrics", get(&server, "/metrics").as_bytes(), &secrets);
    let log = server.log();
    assert!(
        log.contains("\"level\":\"DEBUG\""),
        "the log is at its most verbose level: {log:.300}"
    );
    assert_holds_none("the log", log.as_bytes(), &secrets);
    let statements = servers.postgres.log();
    assert!(
        statements.contains("parameters:"),
        "Postgres logs every statement: {statements:.300}"
    );
    assert_holds_none("PostgreSQL's log", statements.as_bytes(), &secrets);
    assert_holds_none("pg_dump", &servers.database.dump(), &secrets);
    let slow = servers.redis.command(&["SLOWLOG", "GET", "100000"]);
    assert!(slow.to_lowercase().contains("evalsha"));
    assert_holds_none("SLOWLOG", slow.as_bytes(), &secrets);
    let mut folders = vec![servers.redis.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.metadata().unwrap().len() > 0 {
                assert_holds_none(&path.display().to_string(), &std::fs::read(&path).unwrap(), &secrets);
            }
        }
    }
    let traces = eventually("the traces arrive", Duration::from_secs(30), || async {
        Some(collector.process.log())
            .filter(|log| log.contains("UserService/ChangePassword") && log.contains("postgres"))
    })
    .await;
    assert_holds_none("the collector of traces", traces.as_bytes(), &secrets);
    let memory = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert_holds_none("the process list", &memory, &secrets);
}

/// The command in a shell that allows core dumps, in a folder.
fn allowing_core_dumps(command: &Command, folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
        .arg(command.get_program());
    shell.args(command.get_args());
    shell.current_dir(folder);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Aborts a process that may write core dumps, and returns its exit status.
fn abort(command: &Command) -> ExitStatus {
    let folder = guard::scratch("core");
    let mut shell = allowing_core_dumps(command, &folder);
    let mut process = Process::spawn(&mut shell, &folder.join("log"), Ending::Kill);
    let ready = folder.join("ready.json");
    poll(Duration::from_secs(20), || ready.exists().then_some(())).expect("the process is ready");
    process.signal(Signal::SIGABRT);
    process.wait(Duration::from_secs(20))
}

/// Secrets in the memory of the process must not be written to a disk when it crashes.
#[test]
fn a_crash_leaves_no_core_dump() {
    let storage = for_tests(Storage::embedded());
    let mut serve = storage.command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    serve.args(["--ready-file", "ready.json"]);
    // Another process of this machine, for comparison: whether it dumps core depends on the machine.
    let mut other = Command::new("sh");
    other.args(["-c", "touch ready.json; exec sleep 60"]);
    println!("another process dumps core here: {}", abort(&other).core_dumped());
    let status = abort(&serve);
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}

/// Commands on the stores read the master key and passwords.
#[test]
fn a_crash_of_a_command_leaves_no_core_dump() {
    let storage = for_tests(Storage::embedded());
    add_user(&storage, "ada", &[]);
    // The first waits for a password on its standard input, the second for new events.
    for words in [["user", "add", "ben"].as_slice(), &["audit", "tail"]] {
        let folder = guard::scratch("core");
        let mut command = storage.command();
        command.args(words);
        let mut shell = allowing_core_dumps(&command, &folder);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        guard::watch(child.id(), Ending::Kill);
        let limits = format!("/proc/{}/limits", child.id());
        let has_no_dumps = || {
            let text = std::fs::read_to_string(&limits).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with("Max core file size"))
                .unwrap()
                .to_owned();
            line.split_whitespace()
                .skip(4)
                .take(2)
                .all(|limit| limit == "0")
                .then_some(())
        };
        let found = poll(Duration::from_secs(20), has_no_dumps);
        let _ = (child.kill(), child.wait());
        guard::forget(&[child.id()]);
        found.unwrap_or_else(|| panic!("{words:?} may dump core"));
    }
}
