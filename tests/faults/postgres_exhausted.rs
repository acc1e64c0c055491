//! Row 13: every connection to Postgres is taken. Who waits in a short line is answered in time, who would make it
//! longer is sent away at once, and Validate does not notice.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::support::caller::reason;
use crate::support::{Caller, PASSWORD, Servers, eventually};

const POOL: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn the_line_for_a_connection_is_short() {
    let servers = Servers::start(&[])
        .await
        .giving_up_early()
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
    let (mut sent_away, mut gave_up) = (Vec::new(), 0);
    for (answer, took) in calls.join_all().await {
        let status = answer.expect_err("the row is locked");
        match reason(&status) {
            (Code::ResourceExhausted, why) if why == "OVERLOADED" => {
                sent_away.push(took);
            }
            (Code::Unavailable, why) if why == "STORE_UNAVAILABLE" => {
                gave_up += 1;
            }
            other => panic!("{other:?}: {status:?}"),
        }
    }
    // The median: whoever has to wait for a connection waits for at least `acquire_timeout`, every time.
    let usual = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    let count = sent_away.len();
    let (validated, sent_away) = (usual(validated), usual(sent_away));
    println!("{count} sent away after {sent_away:?}, {gave_up} gave up; Validate took {validated:?}");
    assert!(sent_away < Duration::from_secs(1), "sent away after {sent_away:?}");
    assert!(
        count >= 30 - 4 * POOL && gave_up >= POOL,
        "{count} sent away, {gave_up} gave up"
    );
    assert!(validated < Duration::from_millis(500), "Validate took {validated:?}");

    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    eventually("logins work again", Duration::from_secs(30), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
}
