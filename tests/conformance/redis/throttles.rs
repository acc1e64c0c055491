//! Counters of failed attempts: the Lua scripts compute the same as `GcraState`.

use std::time::Duration;

use countersign::store::ThrottleStore as _;
use countersign::store::throttles::{Charge, GcraState, Limit, LimitDecision, MAX_WAIT, Rate};

use super::{connect, connected, server};
use crate::support::KeySpace;

/// A limit so slow that the duration of a test does not matter.
fn limit(count: u32, doubling: bool) -> Limit {
    let per = Duration::from_hours(24);
    Limit {
        rate: Rate { count, per },
        doubling,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_as_by_the_model() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = connect(keys.url(), keys.prefix()).await.unwrap();
    let mut key = [0; 16];
    for (count, doubling) in [(1, false), (1, true), (2, true), (3, false), (10, true), (100, false)] {
        key[15] += 1;
        let limit = limit(count, doubling);
        let mut model = GcraState::default();
        for step in 0..30 {
            let (wait, expected) = (store.wait_time(key, limit).await.unwrap(), model.wait_time(limit, 0));
            // The store's clock moves on meanwhile; the model's stands still.
            let late = expected.saturating_sub(wait);
            assert!(
                wait <= expected && late < Duration::from_mins(1),
                "{limit:?}, {step}: {wait:?}, not {expected:?}"
            );
            store.charge(key, limit).await.unwrap();
            model = model.charged(limit, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_and_refunds_follow_the_model() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = connect(keys.url(), keys.prefix()).await.unwrap();
    let mut key = [1; 16];
    for (count, doubling) in [(1, false), (1, true), (3, true), (10, false)] {
        key[15] += 1;
        let limit = limit(count, doubling);
        let mut model = GcraState::default();
        for step in 0..40 {
            let decision = store.try_charge(key, limit).await.unwrap();
            let (after, expected) = model.try_charged(limit, 0);
            assert_eq!(
                matches!(decision, LimitDecision::Allowed(_)),
                matches!(expected, LimitDecision::Allowed(_)),
                "{limit:?}, {step}: {decision:?}, not {expected:?}"
            );
            model = after;
            // Two of three charges are refunded; an attempt over the limit is charged as a failure.
            match (decision, expected) {
                (LimitDecision::Allowed(charge), LimitDecision::Allowed(modelled)) if step % 3 > 0 => {
                    assert_eq!(charge.over_limit, modelled.over_limit, "{limit:?}, {step}");
                    store.refund(key, charge).await.unwrap();
                    model = model.refunded(modelled);
                }
                (LimitDecision::Allowed(_), _) => {}
                (LimitDecision::Wait(_), _) => {
                    store.charge(key, limit).await.unwrap();
                    model = model.charged(limit, 0);
                }
            }
        }
        assert!(!store.wait_time(key, limit).await.unwrap().is_zero());
    }
    store.refund([9; 16], Charge::default()).await.unwrap();
    assert!(store.wait_time([9; 16], limit(1, false)).await.unwrap().is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_attempts_at_once_the_limit_allows_its_count() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = std::sync::Arc::new(connect(keys.url(), keys.prefix()).await.unwrap());
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = std::sync::Arc::clone(&store);
        attempts.spawn(async move { store.try_charge([3; 16], limit(10, false)).await.unwrap() });
    }
    let taken = attempts.join_all().await;
    assert_eq!(
        taken
            .iter()
            .filter(|decision| matches!(decision, LimitDecision::Allowed(_)))
            .count(),
        10
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn remembered_keys_and_counters_expire() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let (key, other) = ([0xab; 16], [0xcd; 16]);
    assert!(!store.is_remembered(key).await.unwrap());
    store.remember(key, Duration::from_hours(1)).await.unwrap();
    assert!(store.is_remembered(key).await.unwrap() && !store.is_remembered(other).await.unwrap());
    store.remember(other, Duration::from_millis(1)).await.unwrap();
    crate::support::eventually("the key is forgotten", super::RECOVERY, || async {
        (!store.is_remembered(other).await.unwrap()).then_some(())
    })
    .await;
    let limit = limit(24, true);
    store.charge(key, limit).await.unwrap();
    let life: i64 = server
        .command(&["PTTL", &format!("cs:t:{}", "ab".repeat(16))])
        .parse()
        .unwrap();
    let longest = (limit.rate.interval() + MAX_WAIT).as_millis();
    assert!(
        life > 0 && i128::from(life) <= i128::try_from(longest).unwrap(),
        "{life}"
    );
}
