use super::*;
use crate::clock::SystemClock;
use crate::config::{OnStale, Revocation as RevocationConfig};
use crate::model::{SessionId, Target};
use crate::revocation::Index;
use crate::secret::SystemEntropy;
use crate::store::sqlite::{Database, Mode};

fn revocation(now: UnixMillis, hours: u64) -> Revocation {
    Revocation {
        target: Target::Session(SessionId::generate(now, &SystemEntropy)),
        epoch: 0,
        expires: now.plus(Duration::from_hours(hours)),
        revoked: now,
    }
}

/// Between two parts of the snapshot some revocations expire and others are added.
#[tokio::test]
async fn a_snapshot_in_parts_misses_no_revocation() {
    const ROWS: usize = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Database::open(folder.path(), Mode::Serve, clock.clone()).unwrap();
    let feed = Feed::new(
        clock.clone(),
        Arc::new(SystemEntropy),
        RevocationConfig {
            reconcile_interval: Duration::from_secs(1),
            max_staleness: Duration::from_mins(10),
            on_stale: OnStale::FailClosed,
        },
    );
    feed.reconcile(&store).await.unwrap();
    let now = clock.now();
    let short: Vec<_> = (0..ROWS).map(|_| revocation(now, 1)).collect();
    let mut long: Vec<_> = (0..ROWS).map(|_| revocation(now, 10)).collect();
    for (short, long) in short.iter().zip(&long) {
        feed.note(short);
        feed.note(long);
    }

    let mut watch = Watch::start(feed.clone(), &store, "").await.unwrap();
    let (copy, mut parts, mut added, mut events) = (Index::new(), 0, 0, 0);
    loop {
        let last = match watch.next(&*clock).await.unwrap() {
            WatchEvent::Snapshot { rows, last } => {
                parts += 1;
                for row in &rows {
                    copy.insert(row);
                }
                last
            }
            WatchEvent::Revocation(row) => {
                events += 1;
                copy.insert(&row);
                false
            }
            WatchEvent::Keys | WatchEvent::Heartbeat { .. } => false,
        };
        if parts == 2 && added == 0 {
            assert_eq!(feed.index().sweep(now.plus(Duration::from_hours(2))), ROWS);
            added = 100;
            for _ in 0..added {
                let row = revocation(now, 10);
                feed.note(&row);
                long.push(row);
            }
        }
        assert!(!last || parts > 3, "the snapshot is cut");
        if added > 0 && events == added {
            break;
        }
    }
    for row in &long {
        assert!(!copy.insert(row), "missing: {row:?}");
    }
}
