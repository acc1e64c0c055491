//! How much a session weighs.

use std::sync::Arc;
use std::time::Duration;

use countersign::store::SessionStore as _;

use super::{connect_with, connected, server};
use crate::sessions::world::{attempt, session_of, user};

/// The goal, in bytes a session, the context apart.
const MOST: usize = 450;

/// What Redis is told so that it keeps the one session of a user, too, in a few bytes more than the record has.
const COMPACT: &[&str] = &["--hash-max-listpack-value", "256"];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_weighs_little() {
    for options in [&[][..], COMPACT] {
        weigh(options).await;
    }
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn weigh(options: &'static [&'static str]) {
    let server = server(options).await;
    let store = connected(&server).await;
    for (count, most) in [(1, MOST), (10, MOST), (50, MOST)] {
        let user = user();
        for _ in 0..count {
            let session = session_of(user);
            store.create(&session, 1000).await.unwrap();
            // As it is after a refresh whose attempt id is a UUID.
            let id = session.id.to_string();
            store.rotate(&attempt(&session, 0, &id)).await.unwrap();
        }
        let key = format!("cs:s:{{{user}}}");
        let bytes: usize = server
            .command(&["MEMORY", "USAGE", &key, "SAMPLES", "0"])
            .parse()
            .unwrap();
        println!("{count} sessions of a user {options:?}: {} bytes each", bytes / count);
        assert!(bytes / count <= most, "{count} sessions: {bytes} bytes");
    }
}

/// Long, and of interest where the record or a version of Redis changes: run it by name.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "loads a million sessions"]
async fn a_million_sessions_weigh_little() {
    const SESSIONS: usize = 1_000_000;
    const CALLERS: usize = 100;
    for (of_a_user, options) in [(1, &[][..]), (1, COMPACT), (10, &[][..])] {
        let server = server(options).await;
        // It is the weight that is measured, not the pace.
        let store = Arc::new(connect_with(&server.url(), "cs", Duration::from_mins(1)).await.unwrap());
        let occupied = || {
            let memory = server.command(&["INFO", "memory"]);
            let line = memory
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"))
                .unwrap();
            line.trim().parse::<usize>().unwrap()
        };
        let before = occupied();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..SESSIONS / CALLERS / of_a_user {
                        let user = user();
                        for _ in 0..of_a_user {
                            let session = session_of(user);
                            store.create(&session, 1000).await.unwrap();
                            let id = session.id.to_string();
                            store.rotate(&attempt(&session, 0, &id)).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let each = (occupied() - before) / SESSIONS;
        println!("{SESSIONS} sessions, {of_a_user} of a user {options:?}: {each} bytes each, everything counted");
        assert!(each <= MOST + 100, "with the keys' own table and expiries: {each}");
    }
}
