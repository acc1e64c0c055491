//! Secrets in files change while the service runs: passwords of the stores, the secret of `/authorize`, the secret of a client.
//! And the master key from a command.

use std::path::PathBuf;
use std::time::Duration;

use countersign::proto::{Consistency, ValidateRequest};

use crate::connections::require_password;
use crate::side_port::{get, value};
use crate::support::agent::listen_anywhere;
use crate::support::deployment::{PASSWORD, add_user, for_tests};
use crate::support::guard::{self, Ending};
use crate::support::serve::MASTER_KEY;
use crate::support::{Caller, Countersign, KeySpace, Postgres, Process, Redis, Storage, eventually};

/// The files are read every second, and a new value is tried again after a pause; the machine may be busy.
const RELOAD_TIME: Duration = Duration::from_secs(30);

/// A file with a secret.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, secret: &str) -> Self {
        let new = Self(guard::scratch("secret").join(name));
        new.put(secret);
        new
    }

    /// Replaces the secret as mounted files are replaced: by renaming.
    fn put(&self, secret: &str) {
        let draft = self.0.with_extension("new");
        std::fs::write(&draft, format!("{secret}\n")).unwrap();
        std::fs::rename(draft, &self.0).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

async fn metric(server: &Countersign, series: &str) -> Option<f64> {
    let (_, scrape) = get(
        server.http_url().trim_start_matches("http://").parse().unwrap(),
        "/metrics",
    )
    .await?;
    value(&scrape, series)
}

async fn reached(server: &Countersign, series: &str, expected: f64) {
    eventually(series, RELOAD_TIME, || async {
        (metric(server, series).await == Some(expected)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_the_stores_change_without_a_restart() {
    let postgres = Postgres::start(&[]);
    let database = postgres.database().await;
    require_password(&postgres, &database, "one").await;
    let redis = Redis::start(&[]);
    redis.command(&["ACL", "SETUSER", "app", "on", ">one", "~*", "&*", "+@all"]);
    let (address, name) = (postgres.address(), database.name());
    let database_url = |password: &str| format!("postgres://app:{password}@{address}/{name}");
    let to_database = SecretFile::new("database_url", &database_url("one"));
    let to_redis = SecretFile::new("redis_password", "one");
    let storage = for_tests(Storage::clustered("", &redis.url(), "cs"))
        .set("storage.database_url_file", to_database.path())
        .set("storage.redis_user", "app")
        .set("storage.redis_password_file", to_redis.path());
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let caller = Caller::of(&server);
    caller.login("ada").await;

    // The file changes first: the value does not work yet, and the one before stays in use.
    to_database.put(&database_url("two"));
    to_redis.put("two");
    for of in ["database", "redis"] {
        reached(
            &server,
            &format!("countersign_secret_files_refused{{of=\"{of}\"}}"),
            1.0,
        )
        .await;
    }
    caller.login("ada").await;
    database.execute("ALTER ROLE app PASSWORD 'two'").await;
    redis.command(&["ACL", "SETUSER", "app", "resetpass", ">two"]);
    for of in ["database", "redis"] {
        reached(
            &server,
            &format!("countersign_secret_reloads_total{{of=\"{of}\",outcome=\"taken\"}}"),
            1.0,
        )
        .await;
        reached(
            &server,
            &format!("countersign_secret_files_refused{{of=\"{of}\"}}"),
            0.0,
        )
        .await;
    }
    let used = async |what: &str| {
        // All connections end, so that new ones have to log in.
        database
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await;
        redis.command(&["CLIENT", "KILL", "USER", "app"]);
        eventually(what, RELOAD_TIME, || async { caller.issue("ada", PASSWORD).await.ok() }).await;
    };
    used("new connections have the second password").await;

    // The server changes first: new connections fail until the file changes.
    database.execute("ALTER ROLE app PASSWORD 'three'").await;
    redis.command(&["ACL", "SETUSER", "app", "resetpass", ">three"]);
    database
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await;
    redis.command(&["CLIENT", "KILL", "USER", "app"]);
    to_database.put(&database_url("three"));
    to_redis.put("three");
    used("new connections have the third password").await;

    // A file that is no URL, an empty one, and other servers are refused, and nothing stops.
    for (bad_url, bad_password) in [("nonsense", ""), ("postgres://app:canary@h?sslpassword=canary", " ")] {
        to_database.put(bad_url);
        to_redis.put(bad_password);
        for of in ["database", "redis"] {
            reached(
                &server,
                &format!("countersign_secret_files_refused{{of=\"{of}\"}}"),
                1.0,
            )
            .await;
        }
        caller.login("ada").await;
    }
    let log = server.log();
    assert!(log.contains("the new secret cannot be used"), "{log}");
    for secret in ["app:one", "app:two", "app:three", "canary"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_the_proxy_changes_without_an_outage() {
    let (old, new) = ("the-old-secret-of-the-proxy", "the-new-secret-of-the-proxy");
    let file = SecretFile::new("forward_auth", old);
    let server = for_tests(Storage::embedded())
        .set("gateway.forward_auth", "true")
        .set("gateway.forward_auth_secret_file", file.path())
        .serve(&[]);
    let url = format!("{}/authorize", server.http_url());
    let status = async |secret: &str| {
        crate::support::get(&url, &[("x-forward-auth-secret", secret)])
            .await
            .status
    };
    let accepts = async |secret: &str| {
        eventually(secret, RELOAD_TIME, || async {
            (status(secret).await == 401).then_some(())
        })
        .await;
    };
    let refuses = async |secret: &str| {
        eventually(secret, RELOAD_TIME, || async {
            (status(secret).await == 403).then_some(())
        })
        .await;
    };
    accepts(old).await;
    assert_eq!(status(new).await, 403);
    file.put(&format!("{new}\n{old}"));
    accepts(new).await;
    assert_eq!(status(old).await, 401, "both are accepted while both are in the file");
    file.put(new);
    refuses(old).await;
    assert_eq!(status(new).await, 401);
    file.put("short");
    reached(&server, "countersign_secret_files_refused{of=\"forward_auth\"}", 1.0).await;
    assert_eq!(status(new).await, 401, "the one before stays in effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reads_the_secret_of_its_client_again() {
    let storage = for_tests(Storage::embedded());
    add_user(&storage, "ada", &[]);
    let scopes = ["--scope", "countersign:watch", "--scope", "countersign:validate"];
    let made = storage.run(&[&["client", "add", "agent", "--grant", "client_secret"][..], &scopes].concat());
    let file = SecretFile::new("client_secret", made.json()["clientSecret"].as_str().unwrap());
    // Only the agent's own token lets it ask the upstream.
    let server = storage
        .clone()
        .set("server.anonymous_scopes", "countersign:issue")
        .serve(&[]);
    let listen = listen_anywhere();
    let mut command = storage.command();
    command
        .args(["agent", "--upstream", &server.grpc_url(), "--listen", &listen])
        .env("COUNTERSIGN_AGENT__CLIENT_ID", "agent")
        .env("COUNTERSIGN_AGENT__CLIENT_SECRET_FILE", file.path());
    let agent = Process::spawn(&mut command, &guard::scratch("agent").join("log"), Ending::Kill);
    let caller = Caller::at(&format!("http://{listen}"));
    let token = Caller::of(&server).login("ada").await.access_token;
    let asks_upstream = async |what: &str| {
        eventually(what, RELOAD_TIME, || async {
            let request = ValidateRequest {
                access_token: token.clone(),
                consistency: Consistency::Strong.into(),
                ..ValidateRequest::default()
            };
            let answer = caller.tokens.clone().validate(request).await.ok()?.into_inner();
            answer.active.then_some(())
        })
        .await;
    };
    asks_upstream("the agent asks the upstream with the first secret").await;
    // Without an overlap the tokens of the client end too, so the agent needs another one at once.
    let rotated = storage
        .run(&["client", "rotate-secret", "agent", "--overlap", "0s"])
        .json();
    let secret = rotated["clientSecret"].as_str().unwrap();
    file.put(secret);
    asks_upstream("the agent asks the upstream with the second secret").await;
    assert!(!agent.log().contains(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_can_come_from_a_command() {
    let folder = guard::scratch("kms");
    let script = folder.join("key-service");
    let write = |text: &str| {
        std::fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    };
    let (database, keys) = (crate::support::Database::fresh().await, KeySpace::fresh());
    let storage = for_tests(Storage::shared(&database, &keys));
    let by_value = storage.clone();
    let by_command = storage.set("keys.master_key", "").set(
        "keys.master_key_command",
        &format!("{},decrypt,argument", script.display()),
    );
    write(&format!(
        "echo run >> {}/count; test \"$1 $2\" = 'decrypt argument' && printf '{MASTER_KEY} \\r\\n'",
        folder.display()
    ));
    add_user(&by_command, "ada", &[]);
    let server = by_command.serve(&[]);
    Caller::of(&server).login("ada").await;
    let runs = || std::fs::read_to_string(folder.join("count")).unwrap().lines().count();
    let before = runs();
    Caller::of(&server).login("ada").await;
    assert_eq!(runs(), before, "the command runs once at the start");
    // The same key by value opens the same store.
    by_value.run(&["doctor"]).succeed();
    by_command.run(&["doctor"]).succeed();

    for (text, code, problem) in [
        ("echo 'no access to the key' >&2; exit 3", 69, "exit status: 3"),
        ("echo canary", 64, "keys.master_key_command"),
        ("sleep 60 & wait", 69, "10 s"),
    ] {
        write(text);
        let done = by_command.run(&["user", "list"]).finish();
        assert_eq!(done.code(), Some(code), "{text}: {}", done.stderr);
        assert!(
            done.stderr.contains(problem) && done.stderr.contains("keys.master_key_command"),
            "{}",
            done.stderr
        );
        assert!(!done.stderr.contains("canary"), "{}", done.stderr);
    }
    let both = by_value
        .set("keys.master_key_command", "/bin/true")
        .run(&["config", "check"])
        .finish();
    assert!(
        both.code() == Some(64) && both.stderr.contains("set one of them"),
        "{}",
        both.stderr
    );
}
