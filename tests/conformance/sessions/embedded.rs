//! Cases for the embedded store only, whose clock a test can set: the exact end of each duration, and the clean-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use countersign::clock::{Clock, UnixMillis, millis};
use countersign::model::Rotation;
use countersign::model::session::{EXPIRED_RECORD_TTL, NewSession};
use countersign::store::SessionStore as _;
use countersign::store::sqlite::{Database, Mode};

use super::backends::{IDLE, LIFE, LONG, attempt, present, session, session_of, successor, user};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A wall clock and a monotonic clock that the test moves.
#[derive(Debug)]
struct SetClock(AtomicI64, AtomicI64);

impl SetClock {
    fn forward(&self, span: Duration) {
        self.0.fetch_add(millis(span), Ordering::SeqCst);
        self.1.fetch_add(millis(span), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        UnixMillis(self.1.load(Ordering::SeqCst)).since(UnixMillis(0))
    }
}

fn just_before(span: Duration) -> Duration {
    span.checked_sub(MILLISECOND).unwrap()
}

struct Embedded {
    store: Database,
    clock: Arc<SetClock>,
    _folder: tempfile::TempDir,
}

fn embedded() -> Embedded {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock(AtomicI64::new(1_700_000_000_000), AtomicI64::new(0)));
    Embedded {
        store: Database::open(folder.path(), Mode::Serve, Arc::clone(&clock) as Arc<dyn Clock>).unwrap(),
        clock,
        _folder: folder,
    }
}

impl Embedded {
    /// Creates a session that begins now.
    async fn begin(&self, new: NewSession) -> NewSession {
        let now = self.clock.now();
        let new = NewSession {
            created: now,
            expires: now.plus(LIFE),
            ..new
        };
        self.store.create(&new, 1000).await.unwrap();
        new
    }
}

#[tokio::test]
async fn the_grace_ends_to_the_millisecond_and_never_restarts() {
    let it = embedded();
    let session = it.begin(session()).await;
    it.store.rotate(&attempt(&session, 0, "a")).await.unwrap();
    for step in [LONG / 2, just_before(LONG / 2)] {
        it.clock.forward(step);
        let replay = it.store.rotate(&attempt(&session, 0, "a")).await.unwrap();
        assert!(matches!(replay, Rotation::Replayed(_)), "{replay:?}");
    }
    it.clock.forward(MILLISECOND);
    let late = it.store.rotate(&attempt(&session, 0, "a")).await.unwrap();
    assert!(matches!(late, Rotation::Reused(_)), "{late:?}");
}

#[tokio::test]
async fn a_session_expires_to_the_millisecond_and_its_record_stays_for_an_hour() {
    let it = embedded();
    let session = it.begin(session()).await;
    it.clock.forward(just_before(IDLE));
    assert_eq!(it.store.list(session.user, 1).await.unwrap().len(), 1);
    it.clock.forward(MILLISECOND);
    assert!(it.store.list(session.user, 1).await.unwrap().is_empty());
    assert_eq!(it.store.rotate(&present(&session, 0)).await.unwrap(), Rotation::Expired);
    it.clock.forward(just_before(EXPIRED_RECORD_TTL));
    assert_eq!(it.store.rotate(&present(&session, 0)).await.unwrap(), Rotation::Expired);
    it.clock.forward(MILLISECOND);
    assert_eq!(it.store.rotate(&present(&session, 0)).await.unwrap(), Rotation::Unknown);
}

#[tokio::test]
async fn a_refresh_extends_the_idle_expiry_but_not_the_absolute_one() {
    let it = embedded();
    let session = it.begin(session()).await;
    let mut generation = 0;
    let end = session.expires;
    while it.clock.now().plus(IDLE / 2) < end {
        it.clock.forward(IDLE / 2);
        let rotation = it.store.rotate(&present(&session, generation)).await.unwrap();
        generation = successor(&rotation).generation;
        assert_eq!(successor(&rotation).idle_expires, it.clock.now().plus(IDLE).min(end));
    }
    it.clock.forward(IDLE / 2);
    assert_eq!(
        it.store.rotate(&present(&session, generation)).await.unwrap(),
        Rotation::Expired
    );
}

#[tokio::test]
async fn a_clock_that_steps_back_does_not_extend_the_grace() {
    let it = embedded();
    let session = it.begin(session()).await;
    it.store.rotate(&attempt(&session, 0, "a")).await.unwrap();
    it.clock.forward(LONG);
    it.begin(session_of(user())).await;
    it.clock.0.fetch_sub(millis(LONG), Ordering::SeqCst);
    let late = it.store.rotate(&attempt(&session, 0, "a")).await.unwrap();
    assert!(matches!(late, Rotation::Reused(_)), "{late:?}");
}

#[tokio::test]
async fn records_that_count_as_absent_are_removed_in_batches() {
    let it = embedded();
    for _ in 0..5 {
        it.begin(session()).await;
    }
    it.clock.forward(IDLE);
    let alive = it.begin(session()).await;
    assert_eq!(it.store.count_sessions().await.unwrap(), 6);
    assert_eq!(it.store.purge_sessions(3).await.unwrap(), 0, "expired is not absent");
    it.clock.forward(just_before(EXPIRED_RECORD_TTL));
    assert_eq!(it.store.purge_sessions(3).await.unwrap(), 0);
    it.clock.forward(MILLISECOND);
    let mut removed = Vec::new();
    for _ in 0..3 {
        removed.push(it.store.purge_sessions(3).await.unwrap());
    }
    assert_eq!(removed, [3, 2, 0]);
    assert_eq!(it.store.rotate(&present(&alive, 0)).await.unwrap(), Rotation::Expired);
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_removes_no_session() {
    let it = embedded();
    let session = it.begin(session()).await;
    it.clock.0.fetch_add(millis(LIFE * 100), Ordering::SeqCst);
    assert_eq!(it.store.purge_sessions(3).await.unwrap(), 0);
    it.clock.0.fetch_sub(millis(LIFE * 100), Ordering::SeqCst);
    let rotation = it.store.rotate(&present(&session, 0)).await.unwrap();
    assert!(matches!(rotation, Rotation::Rotated(_)), "{rotation:?}");
}
