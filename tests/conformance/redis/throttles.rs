//! Counters of failed attempts: the Lua script and the Rust function count alike.

use std::time::Duration;

use countersign::store::ThrottleStore as _;
use countersign::store::throttles::{Cell, LONGEST_WAIT, Limit, Rate, Take};

use super::{connect, connected, server};
use crate::support::KeySpace;

/// So slow that the time a test takes does not matter.
fn limit(count: u32, doubling: bool) -> Limit {
    let per = Duration::from_hours(24);
    Limit {
        rate: Rate { count, per },
        doubling,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_as_the_model_does() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = connect(keys.url(), keys.prefix()).await.unwrap();
    let mut name = [0; 16];
    for (count, doubling) in [(1, false), (1, true), (2, true), (3, false), (10, true), (100, false)] {
        name[15] += 1;
        let limit = limit(count, doubling);
        let mut model = Cell::default();
        for step in 0..30 {
            let (wait, expected) = (store.wait(name, limit).await.unwrap(), model.wait(limit, 0));
            // Meanwhile the store's clock went on; the model's stood still.
            let late = expected.saturating_sub(wait);
            assert!(
                wait <= expected && late < Duration::from_mins(1),
                "{limit:?}, {step}: {wait:?}, not {expected:?}"
            );
            store.charge(name, limit).await.unwrap();
            model = model.charged(limit, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_taken_and_refunded_as_the_model_does() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = connect(keys.url(), keys.prefix()).await.unwrap();
    let mut name = [1; 16];
    for (count, doubling) in [(1, false), (1, true), (3, true), (10, false)] {
        name[15] += 1;
        let limit = limit(count, doubling);
        let mut model = Cell::default();
        for step in 0..40 {
            let take = store.take(name, limit).await.unwrap();
            let (after, expected) = model.taken(limit, 0);
            assert_eq!(
                matches!(take, Take::Taken(_)),
                matches!(expected, Take::Taken(_)),
                "{limit:?}, {step}: {take:?}, not {expected:?}"
            );
            model = after;
            // Two of three are taken back; what failed past the rate is counted all the same.
            match (take, expected) {
                (Take::Taken(charge), Take::Taken(modelled)) if step % 3 > 0 => {
                    assert_eq!(charge.strikes, modelled.strikes, "{limit:?}, {step}");
                    store.refund(name, charge).await.unwrap();
                    model = model.refunded(modelled);
                }
                (Take::Taken(_), _) => {}
                (Take::Wait(_), _) => {
                    store.charge(name, limit).await.unwrap();
                    model = model.charged(limit, 0);
                }
            }
        }
        assert!(!store.wait(name, limit).await.unwrap().is_zero());
    }
    store
        .refund([9; 16], countersign::store::throttles::Charge::default())
        .await
        .unwrap();
    assert!(store.wait([9; 16], limit(1, false)).await.unwrap().is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_attempts_at_once_as_many_are_taken_as_may() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = std::sync::Arc::new(connect(keys.url(), keys.prefix()).await.unwrap());
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = std::sync::Arc::clone(&store);
        attempts.spawn(async move { store.take([3; 16], limit(10, false)).await.unwrap() });
    }
    let taken = attempts.join_all().await;
    assert_eq!(taken.iter().filter(|take| matches!(take, Take::Taken(_))).count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_remembered_and_everything_is_forgotten_in_time() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let (name, other) = ([0xab; 16], [0xcd; 16]);
    assert!(!store.remembers(name).await.unwrap());
    store.remember(name, Duration::from_hours(1)).await.unwrap();
    assert!(store.remembers(name).await.unwrap() && !store.remembers(other).await.unwrap());
    store.remember(other, Duration::from_millis(1)).await.unwrap();
    crate::support::eventually("it is forgotten", super::RECOVERY, || async {
        (!store.remembers(other).await.unwrap()).then_some(())
    })
    .await;
    let limit = limit(24, true);
    store.charge(name, limit).await.unwrap();
    let life: i64 = server
        .command(&["PTTL", &format!("cs:t:{}", "ab".repeat(16))])
        .parse()
        .unwrap();
    let longest = (limit.rate.interval() + LONGEST_WAIT).as_millis();
    assert!(
        life > 0 && i128::from(life) <= i128::try_from(longest).unwrap(),
        "{life}"
    );
}
