use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::{Database, Mode, Tx};
use rusqlite::types::Value::{Integer, Text};

use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::model::{Error, ErrorKind, Result};

/// A wall clock that is set, beside a monotonic one that stands.
#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn open(folder: &Path, mode: Mode) -> Result<Database> {
    Database::open(folder, mode, Arc::new(SystemClock::new()))
}

fn count(tx: &Tx<'_>, value: i64) -> Result<usize> {
    Ok(tx.run(
        "INSERT INTO counters VALUES ('c', ?1) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [value],
    )?)
}

fn counted(tx: &Tx<'_>) -> Result<i64> {
    Ok(tx
        .first("SELECT value FROM counters", [], |row| Ok(row.get(0)?))?
        .unwrap_or(0))
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn an_answered_write_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), Mode::Serve).unwrap();
    // Read back on the very connection that writes.
    let settings = db
        .call(|tx| {
            let pragma = |sql| tx.first(sql, [], |row| Ok(row.get::<_, rusqlite::types::Value>(0)?));
            Ok([
                pragma("PRAGMA journal_mode")?,
                pragma("PRAGMA synchronous")?,
                pragma("PRAGMA foreign_keys")?,
            ])
        })
        .await
        .unwrap();
    assert_eq!(settings, [Some(Text("wal".into())), Some(Integer(2)), Some(Integer(1))]);
}

#[tokio::test]
async fn the_folder_is_closed_to_others() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/data");
    let db = open(&folder, Mode::Serve).unwrap();
    db.call(|tx| count(tx, 1)).await.unwrap();
    assert_eq!(mode_of(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode_of(&path), 0o600, "{}", path.display());
    }
    drop(db);
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    open(&folder, Mode::Serve).unwrap();
    assert_eq!(mode_of(&folder), 0o700, "closed again");
}

#[test]
fn a_folder_of_other_peoples_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.txt"), "").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let error = open(folder.path(), Mode::Serve).unwrap_err();
    assert!(error.message.contains("folder of its own"), "{error}");
    assert_eq!(mode_of(folder.path()), 0o755);
}

#[test]
fn a_foreign_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countersign.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = open(folder.path(), Mode::Serve).unwrap_err();
    assert!(error.message.contains("not one of this program"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::write(&path, "neither is this one").unwrap();
    assert_eq!(
        open(folder.path(), Mode::Serve).unwrap_err().kind,
        ErrorKind::StoreUnavailable
    );
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), Mode::Serve).unwrap());
    let path = folder.path().join("countersign.db");
    rusqlite::Connection::open(path)
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    let error = open(folder.path(), Mode::Subcommand).unwrap_err();
    assert!(error.message.contains("newer version"), "{error}");
}

#[tokio::test]
async fn one_serves_and_others_work_beside() {
    let folder = tempfile::tempdir().unwrap();
    let serving = open(folder.path(), Mode::Serve).unwrap();
    let error = open(folder.path(), Mode::Serve).unwrap_err();
    assert!(error.message.contains("another `serve`"), "{error}");

    let beside = open(folder.path(), Mode::Subcommand).unwrap();
    beside.call(|tx| count(tx, 5)).await.unwrap();
    assert_eq!(serving.read(|tx| counted(tx)).await.unwrap(), 5);

    drop(serving);
    open(folder.path(), Mode::Serve).unwrap();
}

#[tokio::test]
async fn a_refused_transition_leaves_nothing_and_spares_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), Mode::Serve).unwrap();
    // The first one holds the thread until the others wait, so that they share a commit.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let first = db.call(move |_| held.recv().map_err(Error::internal));
    let good = db.call(|tx| count(tx, 1));
    let bad = db.call(|tx| {
        count(tx, 100)?;
        Err::<(), _>(Error::from(ErrorKind::StaleUpdate))
    });
    let panics = db.call(|tx| -> Result<()> {
        count(tx, 1000)?;
        panic!("a defect");
    });
    let also_good = db.call(|tx| count(tx, 1));
    let go = async { release.send(()).unwrap() };
    let (first, good, bad, panics, also_good, ()) = tokio::join!(first, good, bad, panics, also_good, go);
    first.unwrap();
    good.unwrap();
    also_good.unwrap();
    assert_eq!(bad.unwrap_err().kind, ErrorKind::StaleUpdate);
    assert_eq!(panics.unwrap_err().kind, ErrorKind::Internal);
    assert_eq!(db.read(|tx| counted(tx)).await.unwrap(), 2);
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_is_cancelled_before_its_turn_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), Mode::Serve).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let holder = tokio::spawn({
        let db = db.clone();
        async move {
            db.call(move |_| {
                let _ = entered.send(());
                held.recv().map_err(Error::internal)
            })
            .await
        }
    });
    inside.await.unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut call = Box::pin(db.call(|tx| count(tx, 1)));
        match futures_util::poll!(&mut call) {
            std::task::Poll::Ready(answer) => break answer.unwrap_err(),
            std::task::Poll::Pending => waiting.push(call),
        }
        assert!(waiting.len() < 100_000, "the queue has no bound");
    };
    assert_eq!(refused.kind, ErrorKind::Overloaded);
    drop(waiting);
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    // The queue is still full of what was cancelled until the thread has thrown it away.
    let done = loop {
        match db.call(|tx| counted(tx)).await {
            Ok(done) => break done,
            Err(error) => assert_eq!(error.kind, ErrorKind::Overloaded),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(done, 0);
}

#[tokio::test]
async fn time_is_never_before_the_newest_row() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    clock.0.store(5_000, Ordering::Relaxed);
    let db = Database::open(folder.path(), Mode::Serve, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    db.call(|tx| count(tx, 1)).await.unwrap();
    clock.0.store(9_000, Ordering::Relaxed);
    assert_eq!(db.read(|tx| Ok(tx.now())).await.unwrap(), UnixMillis(9_000));
    clock.0.store(1_000, Ordering::Relaxed);
    assert_eq!(
        db.read(|tx| Ok(tx.now())).await.unwrap(),
        UnixMillis(5_000),
        "no row is from 9,000"
    );
    drop(db);
    let db = Database::open(folder.path(), Mode::Serve, clock).unwrap();
    assert_eq!(db.call(|tx| Ok(tx.now())).await.unwrap(), UnixMillis(5_000));
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_for_a_moment_does_not_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    clock.0.store(5_000, Ordering::Relaxed);
    let db = Database::open(folder.path(), Mode::Serve, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let year_9999 = 253_370_764_800_000;
    clock.0.store(year_9999, Ordering::Relaxed);
    let now = db.call(|tx| count(tx, 1).map(|_| tx.now())).await.unwrap();
    assert_eq!(now, UnixMillis(year_9999));
    clock.0.store(6_000, Ordering::Relaxed);
    assert_eq!(db.read(|tx| Ok(tx.now())).await.unwrap(), UnixMillis(6_000));
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), Mode::Serve).unwrap();
    let limit = async |pages: u32| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        db.call(move |tx| tx.first(&sql, [], |_| Ok(()))).await.unwrap();
    };
    limit(200).await;
    let fill = async |n: u32| {
        db.call(move |tx| {
            Ok(tx.run(
                "INSERT INTO counters VALUES (?1, 1)",
                ["x".repeat(5_000) + &n.to_string()],
            )?)
        })
        .await
    };
    let mut written = 0;
    let error = loop {
        let calls = (0..8).map(|n| fill(written + n));
        let done = futures_util::future::join_all(calls).await;
        written += done.iter().map(|done| u32::from(done.is_ok())).sum::<u32>();
        if let Some(error) = done.into_iter().find_map(Result::err) {
            break error;
        }
    };
    assert_eq!(error.kind, ErrorKind::StoreFull, "{error}");
    let rows = db
        .read(|tx| tx.first("SELECT count(*) FROM counters", [], |row| Ok(row.get::<_, u32>(0)?)))
        .await
        .unwrap();
    assert_eq!(rows, Some(written), "what was answered is there, and nothing else");
    limit(100_000).await;
    fill(written + 100).await.unwrap();
}

#[test]
fn migrations_are_numbered_from_one() {
    assert!(crate::store::migrate::is_numbered(super::database::MIGRATIONS));
}

#[tokio::test]
async fn a_load_of_many_rows_is_read_in_parts() {
    use crate::store::{Changes, ReloadReason, RevocationStore as _};
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), Mode::Serve).unwrap();
    let begun = db.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    db.call(|tx| {
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 45000)
                    INSERT INTO revocations (level, id, epoch, expires, revoked)
                    SELECT 'session', printf('00000000-0000-7000-8000-%012x', i), 0, 9000000000000, i FROM n";
        Ok(tx.run(rows, [])?)
    })
    .await
    .unwrap();
    let loaded = db.load_revocations(UnixMillis(10)).await.unwrap();
    assert_eq!(loaded.rows.len(), 44_990);
    let reload = db.revocations_since(&begun).await.unwrap();
    assert!(
        matches!(reload, Changes::Reload(ReloadReason::ManyNew)),
        "more is new than one look tells"
    );
    assert!(matches!(
        db.revocations_since(&loaded.cursor).await.unwrap(),
        Changes::Since(_)
    ));
}
