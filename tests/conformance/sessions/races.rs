//! One refresh token, presented by many callers at once.

use std::sync::Arc;

use countersign::model::Rotation;
use countersign::model::session::{Evidence, Presented};
use tokio::sync::Barrier;

use super::backends::{Backend, attempt, session, successor};

const CALLERS: usize = 50;

pub async fn one_of_fifty_rotations_wins(backend: Backend) {
    for round in 0..10 {
        let session = backend.begin(session()).await;
        for generation in 0..3 {
            let outcomes = at_once(&backend, |_| attempt(&session, generation, "same")).await;
            let rotated = outcomes.iter().filter(|o| matches!(o, Rotation::Rotated(_))).count();
            let replayed = outcomes.iter().filter(|o| matches!(o, Rotation::Replayed(_))).count();
            assert_eq!((rotated, replayed), (1, CALLERS - 1), "round {round}");
            assert!(outcomes.iter().all(|o| successor(o).generation == generation + 1));
        }
    }
}

pub async fn fifty_different_attempts_are_one_reuse(backend: Backend) {
    for round in 0..10 {
        let session = backend.begin(session()).await;
        let outcomes = at_once(&backend, |n| attempt(&session, 0, &n.to_string())).await;
        let rotated = outcomes.iter().filter(|o| matches!(o, Rotation::Rotated(_))).count();
        let first = |o: &&Rotation| matches!(o, Rotation::Reused(Evidence { first: true, .. }));
        let later = |o: &&Rotation| matches!(o, Rotation::Reused(Evidence { first: false, .. }));
        let (first, later) = (
            outcomes.iter().filter(first).count(),
            outcomes.iter().filter(later).count(),
        );
        assert_eq!((rotated, first, later), (1, 1, CALLERS - 2), "round {round}");
    }
}

async fn at_once(backend: &Backend, presented: impl Fn(usize) -> Presented) -> Vec<Rotation> {
    let barrier = Arc::new(Barrier::new(CALLERS));
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let (store, barrier, presented) = (Arc::clone(&backend.store), Arc::clone(&barrier), presented(n));
            tokio::spawn(async move {
                barrier.wait().await;
                store.rotate(&presented).await.unwrap()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.unwrap());
    }
    outcomes
}
