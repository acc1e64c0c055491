use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _};

use super::fresh;
use crate::support::{Database, eventually};

/// The lock that a replica takes to clean up.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7235421170339)";

async fn expired(database: &Database, count: u32) {
    database
        .execute(&format!(
            "INSERT INTO revocations (level, id, epoch, expires, revoked)
             SELECT 'session', gen_random_uuid()::text, 0, n, n FROM generate_series(1, {count}) AS n;
             ANALYZE revocations"
        ))
        .await;
}

#[tokio::test]
async fn one_replica_at_a_time_cleans_up() {
    let (database, store) = fresh().await;
    expired(&database, 5).await;
    let mut other = database.connect().await;
    let mut busy = other.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(LOCK)).execute(&mut *busy).await.unwrap();
    assert_eq!(
        store.purge_revocations(10).await.unwrap(),
        0,
        "another replica is cleaning up"
    );
    busy.commit().await.unwrap();
    assert_eq!(store.purge_revocations(3).await.unwrap(), 3);
    assert_eq!(store.purge_revocations(10).await.unwrap(), 2);
}

#[tokio::test]
async fn cleaning_up_reads_no_more_than_it_removes() {
    let (database, store) = fresh().await;
    expired(&database, 20_000).await;
    let scans = "SELECT seq_scan || ' ' || idx_scan FROM pg_stat_user_tables WHERE relname = 'revocations'";
    let scans_so_far = async || -> (u64, u64) {
        let text = database.scalar(scans).await;
        let (whole, by_index) = text.split_once(' ').unwrap();
        (whole.parse().unwrap(), by_index.parse().unwrap())
    };
    let before = scans_so_far().await;
    assert_eq!(store.purge_revocations(100).await.unwrap(), 100);
    // A backend reports its statistics only when it is idle.
    let after = eventually("the statistics include the scan", Duration::from_secs(20), || async {
        let now = scans_so_far().await;
        (now.1 > before.1).then_some(now)
    })
    .await;
    assert_eq!(after.0, before.0, "the table was scanned");
}
