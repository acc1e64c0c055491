//! Every connection to Postgres is taken. Calls in the short queue are answered in time, calls beyond it are refused
//! at once, and Validate is not affected.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::support::caller::reason;
use crate::support::{Caller, PASSWORD, Servers, eventually};

const POOL: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_connection_queue_are_refused_at_once() {
    let servers = Servers::start(&[])
        .await
        .with_default_timeouts()
        .set("storage.database_pool", &POOL.to_string());
    let ben = servers.add_user("ben").await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;

    let mut lock = servers.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM users FOR UPDATE")
        .execute(&mut lock)
        .await
        .unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let (caller, ben) = (caller.clone(), ben.clone());
        calls.spawn(async move {
            let start = Instant::now();
            (caller.revoke(Target::UserId(ben)).await, start.elapsed())
        });
    }
    let mut validated = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        caller.assert_active(&session.access_token).await;
        validated.push(start.elapsed());
    }
    let (mut refused_after, mut timed_out) = (Vec::new(), 0);
    for (answer, took) in calls.join_all().await {
        let status = answer.expect_err("the row is locked");
        match reason(&status) {
            (Code::ResourceExhausted, why) if why == "OVERLOADED" => {
                refused_after.push(took);
            }
            (Code::Unavailable, why) if why == "STORE_UNAVAILABLE" => {
                timed_out += 1;
            }
            other => panic!("{other:?}: {status:?}"),
        }
    }
    // The median: a call that waits for a connection waits for at least `acquire_timeout` each time.
    let usual = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    let count = refused_after.len();
    let (validated, refused_after) = (usual(validated), usual(refused_after));
    println!("{count} refused after {refused_after:?}, {timed_out} timed out; Validate took {validated:?}");
    assert!(
        refused_after < Duration::from_secs(1),
        "refused after {refused_after:?}"
    );
    assert!(
        count >= 30 - 4 * POOL && timed_out >= POOL,
        "{count} refused, {timed_out} timed out"
    );
    assert!(validated < Duration::from_millis(500), "Validate took {validated:?}");

    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    eventually("logins work again", Duration::from_secs(30), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
}
