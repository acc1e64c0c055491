//! Starting the server: which configurations and stores are refused, with which exit code and message, and which are
//! not.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;
use tonic::Code;

use crate::support::caller::reason;
use crate::support::ports;
use crate::support::serve::Storage;
use crate::support::{
    Caller, Countersign, Database, Deployment, DeploymentKind, Finished, KeySpace, Postgres, Redis, eventually,
};

fn refusal(storage: &Storage, flags: &[&str]) -> Finished {
    match storage.try_serve(flags) {
        Ok(_) => panic!("the server started, and should not"),
        Err(refused) => refused,
    }
}

/// Asserts that the complaint is one line an operator can act on: no back-trace, no debug output.
fn assert_one_line(refused: &Finished, code: i32, mentions: &str) {
    assert_eq!(refused.code(), Some(code), "{}", refused.stderr);
    // The log is JSON, so the complaint is one of its lines. Other lines may be warnings.
    let lines = refused.stderr.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        line
    });
    let complaints: Vec<_> = lines.filter(|line| line["exit_code"] == code).collect();
    assert_eq!(complaints.len(), 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(mentions),
        "{mentions} is not in: {}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
}

/// All files below a folder, with their contents.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn the_demo_needs_no_configuration() {
    let storage = Storage::embedded();
    let server = storage.serve(&["--dev"]);
    let said = server.log();
    assert!(said.contains("demo"), "the output names the demo user: {said}");
    assert!(std::fs::metadata(storage.data()).is_ok_and(|data| data.is_dir()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&storage.data()), 0o700);
        for (file, _) in contents(&storage.data()) {
            assert_eq!(mode(Path::new(&file)), 0o600, "{file}");
        }
    }
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test]
async fn an_unreachable_database_exits_69_with_one_line() {
    let keys = KeySpace::fresh();
    let nowhere = format!("postgres://nobody:hush-hush@127.0.0.1:{}/none", ports::free());
    let refused = refusal(&Storage::clustered(&nowhere, keys.url(), keys.prefix()), &[]);
    assert_one_line(&refused, 69, "database");
    assert!(!refused.stderr.contains("hush-hush"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_redis_is_a_warning_and_logins_fail_until_it_is_back() {
    let database = Database::fresh().await;
    let mut redis = Redis::start(&[]);
    let storage = crate::support::deployment::for_tests(Storage::clustered(database.url(), &redis.url(), "cs"));
    crate::support::deployment::add_user(&storage, "ada", &[]);
    redis.kill();
    let server = storage.serve(&[]);
    let caller = Caller::of(&server);
    assert!(server.log().to_lowercase().contains("redis"), "{}", server.log());
    let refused = caller.issue("ada", crate::support::PASSWORD).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Unavailable, "STORE_UNAVAILABLE".into()));
    assert_eq!(
        caller.inactive_reason("garbage").await,
        Some(countersign::proto::InactiveReason::Malformed)
    );

    redis.launch();
    let session = eventually("Redis is back", Duration::from_secs(10), || async {
        caller.issue("ada", crate::support::PASSWORD).await.ok()
    })
    .await;
    caller.refresh(&session.refresh_token).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused() {
    let database = Database::fresh().await;
    let redis = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let refused = refusal(&Storage::clustered(database.url(), &redis.url(), "cs"), &[]);
    assert!(matches!(refused.code(), Some(1 | 64 | 69)), "{:?}", refused.status);
    assert!(refused.stderr.contains("noeviction"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_cluster_without_a_master_key_is_refused() {
    let (database, keys) = (Database::fresh().await, KeySpace::fresh());
    let storage = Storage::embedded()
        .set("storage.database_url", database.url())
        .set("storage.redis_url", keys.url());
    assert_one_line(&refusal(&storage, &[]), 64, "keys.master_key");
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_and_changes_nothing() {
    let storage = Storage::embedded();
    assert_eq!(storage.serve(&[]).stop().code(), Some(0));
    let before = contents(&storage.data());
    let wrong = storage
        .clone()
        .set("keys.master_key", "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I=");
    let refused = refusal(&wrong, &[]);
    assert_one_line(&refused, 64, "keys.master_key");
    assert_eq!(contents(&storage.data()), before);
    storage.serve(&[]);

    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    assert_eq!(deployment.serve().stop().code(), Some(0));
    let database = deployment.database.as_ref().unwrap();
    let before = without_heartbeats(&database.dump());
    let wrong = deployment
        .storage
        .clone()
        .set("keys.master_key", "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I=");
    assert_one_line(&refusal(&wrong, &[]), 64, "keys.master_key");
    assert_eq!(without_heartbeats(&database.dump()), before);
}

/// A dump without the random markers that newer versions of `pg_dump` put around it.
fn without_heartbeats(dump: &[u8]) -> String {
    let text = String::from_utf8_lossy(dump);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_second_serve_on_one_data_folder_is_refused() {
    let storage = Storage::embedded();
    let first = storage.serve(&[]);
    let refused = refusal(&storage, &[]);
    assert_one_line(&refused, 1, "another `serve`");
    let caller = Caller::of(&first);
    assert!(
        caller.inactive_reason("garbage").await.is_some(),
        "the first server goes on"
    );
    // The lock belongs to the process: a killed one leaves no lock behind.
    first.kill();
    storage.serve(&[]);
}

#[rstest]
#[tokio::test]
async fn a_schema_of_another_generation_is_refused(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    assert_eq!(deployment.serve().stop().code(), Some(0));
    set_schema_version(&deployment, 9_999).await;
    let refused = refusal(&deployment.storage, &[]);
    assert_one_line(&refused, 1, "version");
}

/// As in a roll-out: the next version has migrated the store, and a replica of this version starts.
#[rstest]
#[tokio::test]
async fn a_schema_that_the_next_version_extended_is_served(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    set_schema_version(&deployment, 99).await;
    assert!(deployment.storage.run(&["doctor"]).succeed().contains("99"));
    let server = deployment.serve();
    Caller::of(&server).login("ada").await;
    assert_eq!(server.stop().code(), Some(0));
    deployment.storage.run(&["migrate"]).succeed();
}

async fn set_schema_version(deployment: &Deployment, version: u32) {
    let Some(database) = &deployment.database else {
        return raise_sqlite_version(&deployment.storage.data(), version);
    };
    let table = migrations_table(
        &database
            .rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            .await,
    );
    database
        .execute(&format!("UPDATE {table} SET version = {version}"))
        .await;
}

fn migrations_table(tables: &[Vec<Option<String>>]) -> String {
    let names = tables.iter().flatten().flatten();
    names
        .into_iter()
        .find(|name| name.contains("schema"))
        .expect("a table of schema versions")
        .clone()
}

fn raise_sqlite_version(data: &Path, version: u32) {
    let connection = rusqlite::Connection::open(data.join("countersign.db")).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
}

#[tokio::test]
async fn listening_beyond_loopback_without_tls_is_refused() {
    let storage = Storage::embedded();
    for port in ["--listen", "--http-listen"] {
        let refused = storage.run(&["serve", port, "0.0.0.0:0"]).finish();
        assert_one_line(&refused, 64, "TLS");
    }
}

#[tokio::test]
async fn sigterm_stops_the_server_in_order() {
    let storage = Storage::embedded();
    let mut server: Countersign = storage.serve(&[]);
    let caller = Caller::of(&server);
    assert!(caller.inactive_reason("garbage").await.is_some());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test]
async fn a_database_that_fails_during_the_start_exits_69() {
    let mut postgres = Postgres::start(&[]);
    let database = postgres.database().await;
    let keys = KeySpace::fresh();
    let storage = Storage::clustered(database.url(), keys.url(), keys.prefix());
    postgres.stop(Signal::SIGQUIT);
    // Only a service writes its complaint into the log.
    let refused = storage.run(&["user", "list"]).finish();
    assert_eq!(refused.code(), Some(69), "{}", refused.stderr);
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert!(
        matches!(lines[..], [line] if line.starts_with("error: ") && line.contains("database")),
        "{}",
        refused.stderr
    );
}
