//! Transactions that commit late, and transactions of other applications that stay open for long. Every replica
//! learns of a late revocation when it commits, and no other revocation waits for either kind. The full size is
//! `COUNTERSIGN_FOREIGN_SECONDS=180 cargo test --all-features --test faults late_commit`.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use crate::recording_client::{ClientSession, login, revoke, validate};
use crate::support::proxy::LinkState;
use crate::support::{Fleet, History, size};

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Inserts a revocation as a replica does, in a transaction that commits later.
async fn insert_revocation(connection: &mut PgConnection, session: &ClientSession) {
    let sql = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         VALUES ('session', '{}', 0, 9000000000000, countersign_ms(clock_timestamp()))",
        session.id
    );
    run(connection, sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_is_seen_when_it_commits_and_delays_no_other_revocation() {
    let open_for = Duration::from_secs(size("COUNTERSIGN_FOREIGN_SECONDS", 4));
    let fleet = Fleet::start(&[], &[]).await;
    let (history, callers) = (History::default(), fleet.callers());
    // The last replica receives no announcements: it knows only what it reads from Postgres.
    fleet.replicas[2].to_redis.set(LinkState::Cut);
    let late = login(&history, &callers[..2], "ada").await;
    let (mut foreign, mut slow) = (fleet.database.connect().await, fleet.database.connect().await);
    let mut open = foreign.begin().await.unwrap();
    run(
        &mut open,
        "CREATE TABLE theirs AS SELECT pg_current_xact_id()".to_owned(),
    )
    .await;
    let mut committing = slow.begin().await.unwrap();
    insert_revocation(&mut committing, &late).await;

    let start = Instant::now();
    let (mut slowest, mut rounds) = (Duration::ZERO, 0_u32);
    while start.elapsed() < open_for {
        let session = login(&history, &callers[..2], "ada").await;
        callers[2].assert_active(&session.access).await;
        revoke(
            &history,
            &callers[0],
            &[&session],
            Target::Token(session.access.clone()),
        )
        .await
        .unwrap();
        let acknowledged = Instant::now();
        while validate(&history, &callers[2], &session).await != Some(false) {
            assert!(
                acknowledged.elapsed() < Duration::from_secs(30),
                "the revocation was delayed by another application's transaction"
            );
            sleep(Duration::from_millis(5)).await;
        }
        slowest = slowest.max(acknowledged.elapsed());
        rounds += 1;
        for caller in &callers {
            assert_eq!(
                validate(&history, caller, &late).await,
                Some(true),
                "the revocation is not committed yet"
            );
        }
    }
    committing.commit().await.unwrap();
    let committed = Instant::now();
    for caller in &callers {
        caller.until_revoked(&late.access).await;
    }
    println!(
        "{rounds} revocations while other transactions were open for {:?}: read from Postgres within {slowest:?}; \
         the late commit known on all replicas after {:?}",
        start.elapsed(),
        committed.elapsed()
    );
    open.rollback().await.unwrap();
    history.assert_consistent();
    fleet.assert_no_panics();
}
