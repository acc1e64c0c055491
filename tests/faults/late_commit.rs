//! Transactions that commit late, and foreign ones that stay open: every replica hears of the former when they commit,
//! and is held up by neither. The full size is
//! `COUNTERSIGN_FOREIGN_SECONDS=180 cargo test --all-features --test faults late_commit`.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use crate::recording_client::{Held, login, revoke, validate};
use crate::support::proxy::Weather;
use crate::support::{Fleet, History, size};

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Writes a revocation down as a replica does that then takes its time.
async fn write_down(connection: &mut PgConnection, held: &Held) {
    let sql = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         VALUES ('session', '{}', 0, 9000000000000, countersign_ms(clock_timestamp()))",
        held.id
    );
    run(connection, sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_commits_late_is_heard_late_and_nobody_waits_for_them() {
    let open_for = Duration::from_secs(size("COUNTERSIGN_FOREIGN_SECONDS", 4));
    let fleet = Fleet::start(&[], &[]).await;
    let (history, callers) = (History::default(), fleet.callers());
    // Nothing is announced to the last replica: it knows what it reads.
    fleet.replicas[2].to_redis.set(Weather::Cut);
    let late = login(&history, &callers[..2], "ada").await;
    let (mut foreign, mut slow) = (fleet.database.connect().await, fleet.database.connect().await);
    let mut open = foreign.begin().await.unwrap();
    run(
        &mut open,
        "CREATE TABLE theirs AS SELECT pg_current_xact_id()".to_owned(),
    )
    .await;
    let mut committing = slow.begin().await.unwrap();
    write_down(&mut committing, &late).await;

    let start = Instant::now();
    let (mut slowest, mut rounds) = (Duration::ZERO, 0_u32);
    while start.elapsed() < open_for {
        let held = login(&history, &callers[..2], "ada").await;
        callers[2].assert_active(&held.access).await;
        revoke(&history, &callers[0], &[&held], Target::Token(held.access.clone()))
            .await
            .unwrap();
        let acknowledged = Instant::now();
        while validate(&history, &callers[2], &held).await != Some(false) {
            assert!(
                acknowledged.elapsed() < Duration::from_secs(30),
                "held up by a transaction that is not ours"
            );
            sleep(Duration::from_millis(5)).await;
        }
        slowest = slowest.max(acknowledged.elapsed());
        rounds += 1;
        for caller in &callers {
            assert_eq!(
                validate(&history, caller, &late).await,
                Some(true),
                "nobody has committed it"
            );
        }
    }
    committing.commit().await.unwrap();
    let committed = Instant::now();
    for caller in &callers {
        caller.until_revoked(&late.access).await;
    }
    println!(
        "{rounds} revocations beside transactions open for {:?}: known from the record within {slowest:?}; \
         what was committed then, on all replicas {:?} later",
        start.elapsed(),
        committed.elapsed()
    );
    open.rollback().await.unwrap();
    history.assert_possible();
    fleet.assert_calm();
}
