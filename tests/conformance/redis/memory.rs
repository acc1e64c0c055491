//! The memory that a session takes in Redis.

use std::sync::Arc;
use std::time::Duration;

use countersign::store::SessionStore as _;

use super::{connect_with, connected, server};
use crate::sessions::backends::{attempt, session_of, user};

/// The limit: bytes per session, without the context.
const MAX_BYTES: usize = 450;

/// With this option Redis stores a user's only session, too, in a few bytes more than the record has.
const COMPACT: &[&str] = &["--hash-max-listpack-value", "256"];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_takes_little_memory() {
    for options in [&[][..], COMPACT] {
        measure(options).await;
    }
}

#[expect(clippy::print_stdout, reason = "the test prints what it measured")]
async fn measure(options: &'static [&'static str]) {
    let server = server(options).await;
    let store = connected(&server).await;
    for (count, max) in [(1, MAX_BYTES), (10, MAX_BYTES), (50, MAX_BYTES)] {
        let user = user();
        for _ in 0..count {
            let session = session_of(user);
            store.create(&session, 1000).await.unwrap();
            // After a refresh, the record holds the attempt id, here a UUID.
            let id = session.id.to_string();
            store.rotate(&attempt(&session, 0, &id)).await.unwrap();
        }
        let key = format!("cs:s:{{{user}}}");
        let bytes: usize = server
            .command(&["MEMORY", "USAGE", &key, "SAMPLES", "0"])
            .parse()
            .unwrap();
        println!("{count} sessions of a user {options:?}: {} bytes each", bytes / count);
        assert!(bytes / count <= max, "{count} sessions: {bytes} bytes");
    }
}

/// Takes long, and is useful when the record or the version of Redis changes: run it by name.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "loads a million sessions"]
async fn a_million_sessions_take_little_memory() {
    const SESSIONS: usize = 1_000_000;
    const CALLERS: usize = 100;
    for (per_user, options) in [(1, &[][..]), (1, COMPACT), (10, &[][..])] {
        let server = server(options).await;
        // A long timeout: the memory is measured, not the speed.
        let store = Arc::new(connect_with(&server.url(), "cs", Duration::from_mins(1)).await.unwrap());
        let used_memory = || {
            let memory = server.command(&["INFO", "memory"]);
            let line = memory
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"))
                .unwrap();
            line.trim().parse::<usize>().unwrap()
        };
        let before = used_memory();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..SESSIONS / CALLERS / per_user {
                        let user = user();
                        for _ in 0..per_user {
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
        let each = (used_memory() - before) / SESSIONS;
        println!("{SESSIONS} sessions, {per_user} of a user {options:?}: {each} bytes each, all memory counted");
        assert!(
            each <= MAX_BYTES + 100,
            "including the tables of keys and expiries: {each}"
        );
    }
}
