//! More records of one user than this version stores.

use std::collections::HashSet;
use std::time::Duration;

use countersign::model::Rotation;
use countersign::model::session::{MAX_EVICTED, NewSession};
use countersign::store::SessionStore as _;

use super::{connected, server};
use crate::sessions::backends::{present, session_of, user};

/// Copies the user's only record this many times.
const COPIES: usize = 5_000;

/// How many scripts have run.
fn scripts(server: &crate::support::Redis) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    let of_scripts = stats.lines().filter(|line| line.starts_with("cmdstat_eval"));
    of_scripts.filter_map(calls).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_an_earlier_version_are_read_in_steps() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let user = user();
    let session = session_of(user);
    store.create(&session, 9).await.unwrap();
    let key = format!("cs:s:{{{user}}}");
    let copy = format!(
        "local raw = redis.call('HVALS', KEYS[1])[1]
         for i = 1, {COPIES} do redis.call('HSET', KEYS[1], struct.pack('>I6I5I5', i, i, i), raw) end"
    );
    server.command(&["EVAL", &copy, "1", &key]);
    let ttl = || server.command(&["PEXPIRETIME", &key]).parse::<u64>().unwrap();
    let (before, expires) = (scripts(&server), ttl());

    let listed = store.list(user, 1).await.unwrap();
    assert_eq!(listed.len(), COPIES + 1);
    assert_eq!(
        listed.iter().map(|view| view.id).collect::<HashSet<_>>().len(),
        COPIES + 1
    );
    let steps = scripts(&server) - before;
    assert!((3..=12).contains(&steps), "{steps} scripts for {COPIES} records");

    // A login reads some of them, ends a bounded number, and does not let the others expire early.
    let short = NewSession {
        idle_ttl: Duration::from_secs(9),
        ..session_of(user)
    };
    let created = store.create(&short, 1).await.unwrap();
    assert_eq!(created.evicted.len(), MAX_EVICTED);
    assert!(created.over_limit.len() > 1_000, "{}", created.over_limit.len());
    assert_eq!(ttl(), expires);
    let left = COPIES + 2 - MAX_EVICTED;
    assert_eq!(store.list(user, 1).await.unwrap().len(), left);

    let ended = store.end_user(user, i64::from(u32::MAX), Some(short.id)).await.unwrap();
    assert_eq!(ended as usize, left - 1);
    assert!(matches!(
        store.rotate(&present(&short, 0)).await.unwrap(),
        Rotation::Rotated(_)
    ));
}
