use countersign::clock::UnixMillis;
use countersign::model::{ErrorKind, Revocation, SessionId, Target};
use countersign::store::{Changes, Cursor, Snapshot};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{fresh, store_with};
use crate::durable::fresh::TestStore;
use crate::durable::samples::*;
use crate::support::{Postgres, size};

async fn since(fresh: &TestStore, cursor: &Cursor) -> Snapshot {
    match fresh.revocations_since(cursor).await.unwrap() {
        Changes::Since(snapshot) => snapshot,
        Changes::Reload(_) => panic!("the server is the same"),
    }
}

fn sessions(rows: &[Revocation]) -> Vec<Target> {
    rows.iter().map(|row| row.target.clone()).collect()
}

/// Revokes a session on a connection of its own.
async fn insert(connection: &mut PgConnection, session: SessionId) {
    let sql = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         VALUES ('session', '{session}', 0, 9000000000000, countersign_ms(clock_timestamp()))"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_seen_after_its_commit() {
    let (database, fresh) = fresh().await;
    let (mut first, mut second) = (database.connect().await, database.connect().await);
    let mut late = [session(), session(), session()];
    late.sort_unstable();
    let mut cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;

    let mut committing = first.begin().await.unwrap();
    insert(&mut committing, late[0]).await;
    // A row of a subtransaction carries the id of the whole transaction.
    let mut part = committing.begin().await.unwrap();
    insert(&mut part, late[1]).await;
    part.commit().await.unwrap();
    let mut giving_up = second.begin().await.unwrap();
    insert(&mut giving_up, late[2]).await;

    for _ in 0..5 {
        let row = revoke(&fresh, Target::Session(session())).await.unwrap();
        let news = since(&fresh, &cursor).await;
        assert_eq!(news.rows, [row], "other rows are neither delayed nor returned twice");
        cursor = news.cursor;
    }
    committing.commit().await.unwrap();
    giving_up.rollback().await.unwrap();
    let news = since(&fresh, &cursor).await;
    let mut seen = sessions(&news.rows);
    seen.sort_by_key(Target::id);
    assert_eq!(seen, [Target::Session(late[0]), Target::Session(late[1])]);
    assert!(since(&fresh, &news.cursor).await.rows.is_empty());
}

#[tokio::test]
async fn a_long_transaction_of_another_application_costs_nothing() {
    let (database, fresh) = fresh().await;
    let mut foreign = database.connect().await;
    let mut open = foreign.begin().await.unwrap();
    sqlx::raw_sql("CREATE TABLE theirs AS SELECT pg_current_xact_id()")
        .execute(&mut *open)
        .await
        .unwrap();
    let mut cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    for n in 0..200 {
        revoke(&fresh, Target::Session(session())).await.unwrap();
        if n % 20 == 19 {
            let news = since(&fresh, &cursor).await;
            assert_eq!(news.rows.len(), 20, "rows that were seen before are not returned again");
            cursor = news.cursor;
        }
    }
    open.commit().await.unwrap();
    assert!(since(&fresh, &cursor).await.rows.is_empty());
}

#[tokio::test]
async fn as_of_is_never_later_than_the_rows_that_were_read() {
    let (database, fresh) = fresh().await;
    let mut cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    for _ in 0..50 {
        let row = revoke(&fresh, Target::Session(session())).await.unwrap();
        let acknowledged = database.scalar("SELECT countersign_ms(clock_timestamp())").await;
        let news = since(&fresh, &cursor).await;
        assert!(
            news.as_of.0
                <= database
                    .scalar("SELECT countersign_ms(clock_timestamp())")
                    .await
                    .parse()
                    .unwrap()
        );
        assert!(news.as_of.0 < acknowledged.parse().unwrap() || news.rows.contains(&row));
        cursor = news.cursor;
    }
}

#[tokio::test]
async fn after_a_change_of_timeline_everything_is_loaded_again() {
    let mut server = Postgres::start(&[("restore_command", "false")]);
    let database = server.database().await;
    let fresh = store_with(database.url(), |_| {}).await;
    let row = revoke(&fresh, Target::Session(session())).await.unwrap();
    let cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    assert!(since(&fresh, &cursor).await.rows.is_empty());

    // Like a promotion: recovery that ends on a new timeline.
    server.stop(Signal::SIGINT);
    std::fs::write(server.folder().join("data/recovery.signal"), "").unwrap();
    server.launch();
    let changes = fresh.revocations_since(&cursor).await.unwrap();
    assert!(matches!(changes, Changes::Reload(_)), "{changes:?}");
    let loaded = fresh.load_revocations(UnixMillis(0)).await.unwrap();
    assert_eq!(loaded.rows, [row]);
    assert!(since(&fresh, &loaded.cursor).await.rows.is_empty());
}

#[tokio::test]
async fn a_cursor_of_another_server_means_reload_however_many_transactions_it_names() {
    let (_database, fresh) = fresh().await;
    let longest = (0..1_000).map(|n| (18_446_744_073_709_550_000_u64 + n).to_string());
    let longest = longest.collect::<Vec<_>>().join(",");
    for cursor in [
        "p1.7512345678901234567.00000001.16384.741:741:",
        "p1.1.0000000A.5.741:745:741,743",
        &format!("p1.1.00000001.5.18446744073709550000:18446744073709551615:{longest}"),
    ] {
        let changes = fresh.revocations_since(&Cursor(cursor.to_owned())).await.unwrap();
        assert!(matches!(changes, Changes::Reload(_)), "{cursor}: {changes:?}");
    }
    let of_sqlite = Cursor("s1.0123456789abcdef0123456789abcdef.7".to_owned());
    let error = fresh.revocations_since(&of_sqlite).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ResumeTokenInvalid);
}

/// Full size: `COUNTERSIGN_TEST_REVOCATIONS=1000000 cargo test --all-features --test conformance -- of_any_number`.
#[tokio::test]
async fn a_load_of_any_number_of_rows_completes() {
    let count = size("COUNTERSIGN_TEST_REVOCATIONS", 50_000);
    let (database, fresh) = fresh().await;
    let begun = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    let insert = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         SELECT 'session', gen_random_uuid(), 0, 9000000000000, countersign_ms(clock_timestamp())
         FROM generate_series(1, {count})"
    );
    let mut connection = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(insert))
        .execute(&mut connection)
        .await
        .unwrap();
    let old =
        "INSERT INTO revocations (level, id, epoch, expires, revoked) VALUES ('session', gen_random_uuid(), 0, 1, 1)";
    sqlx::raw_sql(AssertSqlSafe(old))
        .execute(&mut connection)
        .await
        .unwrap();

    // Each statement takes less than its timeout, however long the load takes. Rows written meanwhile come with the
    // next query.
    let started = tokio::time::Instant::now();
    let (loaded, late) = tokio::join!(fresh.load_revocations(UnixMillis(1)), async {
        revoke(&fresh, Target::Session(session())).await.unwrap()
    });
    let loaded = loaded.unwrap();
    println!("{count} rows loaded in {:?}", started.elapsed());
    let mut ids: std::collections::HashSet<String> = loaded.rows.iter().map(|row| row.target.id()).collect();
    assert_eq!(ids.len(), loaded.rows.len(), "no row twice");
    let news = since(&fresh, &loaded.cursor).await.rows;
    ids.extend(news.iter().map(|row| row.target.id()));
    assert!(ids.contains(&late.target.id()));
    assert_eq!(ids.len(), count + 1);
    assert!(
        matches!(fresh.revocations_since(&begun).await.unwrap(), Changes::Reload(_)),
        "there are more new rows than one query returns"
    );
}
