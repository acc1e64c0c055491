//! The database goes away in the middle of `user import`.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::support::deployment::for_tests;
use crate::support::proxy::{LinkState, Proxy};
use crate::support::{Database, KeySpace, Storage, eventually};

fn row(n: usize) -> String {
    format!("{}\n", json!({"username": format!("user{n}"), "attributes": {"n": n}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_loses_its_database_says_how_many_users_are_in_and_can_be_repeated() {
    const BEFORE: usize = 300;
    const ALL: usize = 400;
    let (database, keys) = (Database::fresh().await, KeySpace::fresh());
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_through(proxy.address());
    let storage = for_tests(Storage::clustered(&url, keys.url(), keys.prefix()));
    storage.run(&["migrate"]).succeed();

    let mut command = storage.command();
    command.args(["user", "import", "-"]).stdin(Stdio::piped());
    let mut import = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = import.stdin.take().unwrap();
    for n in 0..BEFORE {
        input.write_all(row(n).as_bytes()).unwrap();
    }
    // The rows that are there are imported while the pipe is silent.
    eventually("the first rows are in", Duration::from_mins(1), async || {
        let count = database.scalar("SELECT count(*)::text FROM users").await;
        (count == BEFORE.to_string()).then_some(())
    })
    .await;
    proxy.set(LinkState::Cut);
    for n in BEFORE..ALL {
        // The command may have ended already.
        if input.write_all(row(n).as_bytes()).is_err() {
            break;
        }
    }
    drop(input);
    let ended = tokio::task::spawn_blocking(move || import.wait_with_output().unwrap())
        .await
        .unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert_eq!(ended.status.code(), Some(69), "{out}{error}");
    assert!(out.contains(&format!("{BEFORE} imported, 0 rejected")), "{out}");
    let place = url.rsplit_once('/').unwrap().1;
    for part in [
        format!("ended at line {} of the standard input", BEFORE + 1),
        format!("{BEFORE} users are in the clustered store"),
        place.to_owned(),
        "STORE_UNAVAILABLE".to_owned(),
    ] {
        assert!(error.contains(&part), "{part}: {error}");
    }

    proxy.set(LinkState::Up(Duration::ZERO));
    let file: String = (0..ALL).map(row).collect();
    let done = storage.run(&["user", "import", "-"]).input(file).finish();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let summary = format!("{} imported, {BEFORE} rejected", ALL - BEFORE);
    assert!(done.stdout.contains(&summary), "{done:?}");
    assert!(
        done.stderr.contains(place),
        "a partial import names the store, too: {done:?}"
    );
}
