//! A million revocations, and hundreds of thousands of one user: replicas start within seconds, a snapshot is cut into
//! messages of bounded size, and an agent follows. The rows are made by SQL.
//!
//! The full size, a million revocations of sessions and 400,000 of one user: `cargo test --release --all-features --test faults
//! a_million_revocations -- --ignored --nocapture --test-threads 1`. Other sizes: `COUNTERSIGN_TEST_REVOCATIONS` and
//! `COUNTERSIGN_TEST_REVOCATIONS_OF_ONE_USER`.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::watch_revocations_response::Message;
use countersign::proto::{InactiveReason, WatchRevocationsRequest};
use countersign::store::sqlite::{Database, Mode};
use prost::Message as _;
use rstest::rstest;
use tokio::time::{Instant, timeout};

use crate::support::agent::{Agent, listen_anywhere};
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, eventually, size};

/// A random id in SQLite.
const UUID: &str = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' ||
                    hex(randomblob(2)) || '-' || hex(randomblob(6)))";

/// The largest message of a snapshot.
const MAX_MESSAGE: usize = 256 * 1024;

/// Longer than any step takes when it succeeds.
const TIMEOUT: Duration = Duration::from_mins(5);

/// Rows that one statement makes in SQLite.
const BATCH: i64 = 4_000;

/// Revokes this many sessions, none of which exists, and all but one session of the user, this many times.
async fn revoke(deployment: &Deployment, user: &str, sessions: i64, of_user: i64) {
    if let Some(database) = &deployment.database {
        database
            .execute(&format!(
                "INSERT INTO revocations (level, id, epoch, expires, revoked)
                 SELECT 'session', gen_random_uuid()::text, 0, now.ms + 2592000000, now.ms
                 FROM generate_series(1, {sessions}), (SELECT countersign_ms(now()) AS ms) AS now;
                 INSERT INTO revocations (level, id, keep, epoch, expires, revoked)
                 SELECT 'user', '{user}', gen_random_uuid(), users.epoch + n, now.ms + 2592000000, now.ms
                 FROM users, generate_series(1, {of_user}) AS n, (SELECT countersign_ms(now()) AS ms) AS now
                 WHERE users.id = '{user}';
                 UPDATE users SET epoch = epoch + {of_user} WHERE id = '{user}'"
            ))
            .await;
        return;
    }
    let clock = Arc::new(SystemClock::new());
    let database = Database::open(&deployment.storage.data(), Mode::Subcommand, Arc::clone(&clock) as _).unwrap();
    let numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)";
    let of_sessions = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         {numbers} SELECT 'session', {UUID}, 0, ?2 + 2592000000, ?2 FROM n"
    );
    let of_a_user = format!(
        "INSERT INTO revocations (level, id, keep, epoch, expires, revoked)
         {numbers} SELECT 'user', users.id, {UUID}, users.epoch + n, ?2 + 2592000000, ?2 FROM n, users WHERE users.id = '{user}'"
    );
    let raise = format!("UPDATE users SET epoch = epoch + ?1 WHERE id = '{user}' AND ?2 > 0");
    for (statements, count) in [(vec![of_sessions], sessions), (vec![of_a_user, raise], of_user)] {
        let mut left = count;
        while left > 0 {
            let (statements, rows, now) = (statements.clone(), left.min(BATCH), clock.now().0);
            let made = database.call(move |tx| {
                for statement in &statements {
                    tx.run(statement, [rows, now])?;
                }
                Ok(())
            });
            made.await.unwrap();
            left -= rows;
        }
    }
}

/// Waits until the replica or agent knows that the token is revoked. While it loads everything again, it may be too far behind
/// to answer.
async fn until_known(caller: &Caller, token: &str) {
    eventually("the revocations are known", TIMEOUT, || async {
        let answer = caller.validate(token).await.ok()?;
        (answer.reason() == InactiveReason::Revoked).then_some(())
    })
    .await;
}

/// Reads a snapshot to its end; returns the numbers of revocations and messages, and the size of the largest message.
async fn snapshot(server: &Countersign) -> (usize, usize, usize) {
    let mut stub = Caller::with_deadline(&server.grpc_url(), TIMEOUT).tokens;
    let begun = stub.watch_revocations(WatchRevocationsRequest::default()).await;
    let (mut stream, mut rows, mut messages, mut largest) = (begun.unwrap().into_inner(), 0, 0, 0);
    loop {
        let message = stream.message().await.unwrap().expect("the stream is open");
        largest = largest.max(message.encoded_len());
        if let Message::Snapshot(part) = message.message.unwrap() {
            rows += part.revocations.len();
            messages += 1;
            if part.last {
                return (rows, messages, largest);
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn load(deployment_kind: DeploymentKind, sessions: i64, of_user: i64) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("storage.statement_timeout", "60s");
    let ada = deployment.add_user("ada", &[]);
    deployment.add_user("ben", &[]);
    let first = deployment.serve();
    let caller = Caller::of(&first);
    let (revoked, good) = (caller.login("ada").await, caller.login("ben").await);
    let start = Instant::now();
    revoke(&deployment, &ada, sessions, of_user).await;
    let made = start.elapsed();

    // The replica that runs already finds more new rows than it reads at once, and loads all again.
    let start = Instant::now();
    until_known(&caller, &revoked.access_token).await;
    let reloaded = start.elapsed();
    caller.assert_active(&good.access_token).await;
    // One process at a time serves embedded data.
    let first = (deployment_kind != DeploymentKind::Embedded).then_some(first);

    let start = Instant::now();
    let second = deployment.serve();
    let caller = Caller::of(&second);
    until_known(&caller, &revoked.access_token).await;
    let started = start.elapsed();
    caller.assert_active(&good.access_token).await;

    let start = Instant::now();
    let (rows, messages, largest) = timeout(TIMEOUT, snapshot(&second))
        .await
        .expect("the snapshot has an end");
    let watched = start.elapsed();

    let start = Instant::now();
    let agent = Agent::start(&deployment.storage, &second, &listen_anywhere(), &[]);
    let beside = agent.caller().await;
    until_known(&beside, &revoked.access_token).await;
    let followed = start.elapsed();
    beside.assert_active(&good.access_token).await;
    println!(
        "{sessions} revocations of sessions and {of_user} of one user, {deployment_kind:?}, made within {made:?}: a running replica \
         knew them after {reloaded:?}, a new one started within {started:?} ({} KiB); snapshot of {rows} revocations in \
         {messages} messages of at most {largest} bytes within {watched:?}; a new agent knew them after {followed:?}",
        second.resident_kib(),
    );
    assert!(largest <= MAX_MESSAGE, "{largest} bytes");
    // Those of one user are one entry, which stands for two revocations.
    assert!(
        (sessions..sessions + 10).contains(&i64::try_from(rows).unwrap()),
        "{rows} revocations"
    );
    assert!(
        caller.login("ada").await.access_token.len() > 10,
        "the user logs in again"
    );
    drop(first);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_revocations_load_and_are_sent_in_parts(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let sessions = size("COUNTERSIGN_TEST_REVOCATIONS", 20_000);
    let of_user = size("COUNTERSIGN_TEST_REVOCATIONS_OF_ONE_USER", 20_000);
    load(deployment_kind, sessions, of_user).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes 1.4 million rows: see the head of the file"]
async fn a_million_revocations_load_within_seconds(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    load(deployment_kind, 1_000_000, 400_000).await;
}
