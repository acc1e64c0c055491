//! The number of a user's records is bounded, and records that nobody needs go first.

use std::collections::HashSet;
use std::time::Duration;

use countersign::model::session::{Created, MAX_EVICTED, NewSession, SPARE_RECORDS};
use countersign::model::{ClientId, Rotation, SessionId, UserId};
use futures_util::future::join_all;

use super::backends::{Backend, attempt, present, session_of, user};

/// The session limit of the client in these cases.
const LIMIT: u32 = 2;

/// The most records after a login at that client.
const MAX_RECORDS: usize = (LIMIT + SPARE_RECORDS) as usize;

/// Stores this many live sessions, which no limit keeps from being stored.
async fn fill(backend: &Backend, user: UserId, count: usize) -> Vec<SessionId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let new: Vec<_> = (0..50.min(count - ids.len())).map(|_| session_of(user)).collect();
        let created = join_all(new.iter().map(|new| backend.store.create(new, u32::MAX))).await;
        assert!(created.into_iter().all(|created| created.unwrap().evicted.is_empty()));
        ids.extend(new.iter().map(|new| new.id));
    }
    ids.sort_unstable();
    ids
}

async fn tombstone(backend: &Backend, user: UserId) -> NewSession {
    let session = backend.begin(session_of(user)).await;
    backend.rotate(&present(&session, 0)).await;
    let reused = backend.rotate(&attempt(&session, 0, "thief")).await;
    assert!(matches!(reused, Rotation::Reused(_)), "{reused:?}");
    session
}

fn expired(user: UserId) -> NewSession {
    NewSession {
        idle_ttl: Duration::ZERO,
        ..session_of(user)
    }
}

fn elsewhere(user: UserId) -> NewSession {
    NewSession {
        client: ClientId::parse("other", "client_id").unwrap(),
        ..session_of(user)
    }
}

async fn log_in(backend: &Backend, user: UserId) -> Created {
    backend.store.create(&session_of(user), LIMIT).await.unwrap()
}

pub async fn the_records_of_a_user_are_bounded(backend: Backend) {
    let user = user();
    let other = backend.begin(elsewhere(user)).await;
    let mut reused = Vec::new();
    for _ in 0..2 {
        reused.push(tombstone(&backend, user).await);
    }
    let old = backend.begin(expired(user)).await;
    let era = NewSession {
        era: 0,
        ..session_of(user)
    };
    let era = backend.begin(era).await;
    let live = fill(&backend, user, MAX_RECORDS - 5).await;
    assert_eq!(backend.rotate(&present(&old, 0)).await, Rotation::Expired);

    // One record too many: the expired one goes, and so does the one of an earlier era.
    let created = log_in(&backend, user).await;
    assert!(created.evicted.is_empty());
    assert_eq!(created.over_limit.len(), live.len());
    for gone in [&old, &era] {
        assert_eq!(backend.rotate(&present(gone, 0)).await, Rotation::Unknown);
    }
    assert!(log_in(&backend, user).await.evicted.is_empty(), "full");

    // Then the tombstones, oldest first, and the caller gets to know of them.
    reused.sort_by_key(|session| session.id);
    for reused in &reused {
        let created = log_in(&backend, user).await;
        let evicted: Vec<_> = created
            .evicted
            .iter()
            .map(|session| (session.id, session.expires))
            .collect();
        assert_eq!(evicted, [(reused.id, reused.expires)]);
    }

    // Then the oldest session at the same client. Those of other clients stay, however old.
    let created = log_in(&backend, user).await;
    let evicted: Vec<_> = created.evicted.iter().map(|session| session.id).collect();
    assert_eq!(evicted, live[..1]);
    assert!(!created.over_limit.iter().any(|session| session.id == live[0]));
    let listed = backend.store.list(user, 1).await.unwrap();
    assert_eq!(listed.len(), MAX_RECORDS);
    assert!(!listed.iter().any(|session| session.id == live[0]));
    assert!(matches!(
        backend.rotate(&present(&other, 0)).await,
        Rotation::Rotated(_)
    ));
}

/// As many records as an earlier version may have stored, more than one script reads.
pub async fn more_records_than_are_read_at_once_are_listed_shrunk_and_ended(backend: Backend) {
    const RECORDS: usize = 1_100;
    let user = user();
    let mut live: HashSet<SessionId> = fill(&backend, user, RECORDS).await.into_iter().collect();
    let listed = backend.store.list(user, 1).await.unwrap();
    assert!(
        listed
            .windows(2)
            .all(|pair| (pair[0].created, pair[0].id) < (pair[1].created, pair[1].id))
    );
    assert_eq!(listed.iter().map(|session| session.id).collect::<HashSet<_>>(), live);

    let new = session_of(user);
    let created = backend.store.create(&new, LIMIT).await.unwrap();
    assert_eq!(created.evicted.len(), MAX_EVICTED, "a bounded number at a login");
    for session in &created.evicted {
        assert!(live.remove(&session.id));
    }
    live.insert(new.id);
    assert_eq!(backend.store.list(user, 1).await.unwrap().len(), live.len());
    assert!(matches!(backend.rotate(&present(&new, 0)).await, Rotation::Rotated(_)));
    assert_eq!(
        backend
            .store
            .end_user(user, i64::from(u32::MAX), Some(new.id))
            .await
            .unwrap() as usize,
        live.len() - 1
    );
    assert_eq!(backend.store.list(user, 1).await.unwrap().len(), 1);
}

pub async fn sessions_end_together_and_a_tombstone_stays(backend: Backend) {
    let user = user();
    let (one, other) = (
        backend.begin(session_of(user)).await,
        backend.begin(session_of(user)).await,
    );
    let (old, bystander) = (
        backend.begin(expired(user)).await,
        backend.begin(session_of(user)).await,
    );
    let reused = tombstone(&backend, user).await;
    let foreign = backend.begin(session_of(super::backends::user())).await;
    let all = [one.id, other.id, old.id, reused.id, foreign.id];
    assert_eq!(
        backend.store.end_all(user, &all).await.unwrap(),
        2,
        "live sessions of the user"
    );
    assert_eq!(backend.store.end_all(user, &all).await.unwrap(), 0);
    assert_eq!(backend.store.end_all(user, &[]).await.unwrap(), 0);
    for gone in [&one, &other, &old] {
        assert_eq!(backend.rotate(&present(gone, 0)).await, Rotation::Unknown);
    }
    assert!(matches!(
        backend.rotate(&present(&reused, 1)).await,
        Rotation::Reused(_)
    ));
    for lives in [&bystander, &foreign] {
        assert!(matches!(backend.rotate(&present(lives, 0)).await, Rotation::Rotated(_)));
    }
}
