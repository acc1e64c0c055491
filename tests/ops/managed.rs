//! Managed Postgres: the role of the service may not call the functions that tell the timeline of the server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;

use crate::broken::complaints;
use crate::support::deployment::{add_user, for_tests};
use crate::support::serve::Storage;
use crate::support::{Caller, Database, KeySpace, Postgres, eventually};

const TIMEOUT: Duration = Duration::from_mins(1);

/// The line that says which check is in use.
const WARNING: &str = "the database does not tell its timeline";

/// A database that the role `app` owns.
async fn owned(postgres: &Postgres) -> (Database, String) {
    let database = postgres.database().await;
    let name = database.name();
    let sql = format!("CREATE ROLE app LOGIN; ALTER DATABASE {name} OWNER TO app; GRANT ALL ON SCHEMA public TO app");
    database.execute(&sql).await;
    let url = database.url().replace("postgres@", "app@");
    (database, url)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Revokes everything on another Redis prefix, so that no announcement reaches the replica: only the feed can.
fn revoke_unannounced(storage: &Storage) {
    let elsewhere = storage.clone().set("storage.redis_prefix", "elsewhere");
    elsewhere.run(&["session", "revoke-all", "--user", "ada"]).succeed();
}

/// The database is set back to an earlier state, so that its transactions get their numbers a second time. Without a check
/// of the timeline the replica would take the new revocations for ones that it has seen.
#[rstest]
#[case::full("", false)]
#[case::no_timeline("pg_current_wal_lsn()", true)]
#[case::no_timeline_and_no_identifier("pg_walfile_name(pg_lsn), pg_control_system()", true)]
#[tokio::test(flavor = "multi_thread")]
async fn revocations_are_followed_and_an_earlier_state_of_the_database_is_noticed(
    #[case] forbidden: &str,
    #[case] warns: bool,
) {
    let mut postgres = Postgres::start(&[]);
    let (database, url) = owned(&postgres).await;
    let keys = KeySpace::fresh();
    let storage = for_tests(Storage::clustered(&url, keys.url(), keys.prefix()));
    if !forbidden.is_empty() {
        let sql = format!("REVOKE EXECUTE ON FUNCTION {forbidden} FROM PUBLIC");
        database.execute(&sql).await;
    }
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    assert_eq!(
        server.log().matches(WARNING).count(),
        usize::from(warns),
        "{}",
        server.log()
    );
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    revoke_unannounced(&storage);
    caller.until_revoked(&session.access_token).await;

    // A backup without the server, then work that it does not have.
    postgres.stop(Signal::SIGINT);
    let (data, backup) = (postgres.folder().join("data"), postgres.folder().join("backup"));
    copy(&data, &backup);
    postgres.launch();
    let (session, _) = login_when_back(&caller).await;
    for _ in 0..300 {
        database.execute("SELECT pg_current_xact_id()").await;
    }
    let reconciled = database.scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())").await;
    let before = caller.validate(&session).await.unwrap().revocations_as_of.unwrap();
    eventually("the replica has seen these transactions", TIMEOUT, || async {
        let now = caller.validate(&session).await.ok()?.revocations_as_of?;
        (now.seconds > before.seconds + 1).then_some(())
    })
    .await;

    postgres.stop(Signal::SIGINT);
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let reloads = || server.log().matches("all revocations are loaded again").count();
    let known = reloads();
    postgres.launch();
    eventually("the replica notices it", TIMEOUT, || async {
        (reloads() > known).then_some(())
    })
    .await;
    let (session, _) = login_when_back(&caller).await;
    let again: u64 = database
        .scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())")
        .await
        .parse()
        .unwrap();
    assert!(
        again < reconciled.parse().unwrap(),
        "the numbers of transactions have not come back"
    );
    revoke_unannounced(&storage);
    caller.until_revoked(&session).await;
    assert_eq!(
        server.log().matches(WARNING).count(),
        usize::from(warns),
        "it is said once"
    );
}

/// The access token of a new session, once the stores answer again.
async fn login_when_back(caller: &Caller) -> (String, String) {
    let tokens = eventually("logins work", TIMEOUT, || async {
        caller.issue("ada", crate::support::PASSWORD).await.ok()
    })
    .await;
    (tokens.access_token, tokens.refresh_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_while_the_service_runs_weakens_the_check() {
    let postgres = Postgres::start(&[]);
    let (database, url) = owned(&postgres).await;
    let keys = KeySpace::fresh();
    let storage = for_tests(Storage::clustered(&url, keys.url(), keys.prefix()));
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    database
        .execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        .await;
    eventually("it is said", TIMEOUT, || async {
        server.log().contains(WARNING).then_some(())
    })
    .await;
    revoke_unannounced(&storage);
    caller.until_revoked(&session.access_token).await;
}

#[tokio::test]
async fn without_any_check_the_start_is_refused_in_one_line() {
    let postgres = Postgres::start(&[]);
    let (database, url) = owned(&postgres).await;
    let keys = KeySpace::fresh();
    let storage = for_tests(Storage::clustered(&url, keys.url(), keys.prefix()));
    let functions = "pg_current_wal_lsn(), pg_postmaster_start_time()";
    database
        .execute(&format!("REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC"))
        .await;
    let refused = storage.try_serve(&[]).unwrap_err();
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    let lines = complaints(&refused.stderr);
    let words = "permission denied for function pg_postmaster_start_time";
    assert!(
        matches!(&lines[..], [line] if line.contains(words) && line.contains("GRANT")),
        "{}",
        refused.stderr
    );
}

/// Rights on the tables were taken after the last start: `serve` says so instead of waiting.
#[tokio::test]
async fn a_missing_right_on_the_revocations_ends_the_start_in_one_line() {
    let postgres = Postgres::start(&[]);
    let database = postgres.database().await;
    let keys = KeySpace::fresh();
    let owner = for_tests(Storage::clustered(database.url(), keys.url(), keys.prefix()));
    owner.serve(&[]).stop();
    database
        .execute(
            "CREATE ROLE app LOGIN;
             GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
             REVOKE SELECT ON revocations FROM app",
        )
        .await;
    let storage = for_tests(Storage::clustered(
        &database.url().replace("postgres@", "app@"),
        keys.url(),
        keys.prefix(),
    ));
    let refused = storage.try_serve(&[]).unwrap_err();
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    let lines = complaints(&refused.stderr);
    let words = "permission denied for table revocations";
    assert!(
        matches!(&lines[..], [line] if line.contains(words)),
        "{}",
        refused.stderr
    );
}
