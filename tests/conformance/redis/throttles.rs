//! Counters of failed attempts: the Lua scripts compute the same as `GcraState`.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::store::ThrottleStore;
use countersign::store::local::LocalThrottles;
use countersign::store::throttles::{Charge, GcraState, Limit, LimitDecision, MAX_WAIT, Rate};
use tokio::time::Instant;

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
async fn attempts_are_counted_and_refused_as_by_the_model() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let store = connect(keys.url(), keys.prefix()).await.unwrap();
    let mut key = [0; 16];
    for (count, doubling) in [(1, false), (1, true), (2, true), (3, false), (10, true), (100, false)] {
        key[15] += 1;
        let limit = limit(count, doubling);
        let mut model = GcraState::default();
        for step in 0..30 {
            let (wait, expected) = (store.wait_time(key, limit).await.unwrap(), model.wait_time(limit, 0));
            close(wait, expected, &format!("{limit:?}, {step}"));
            let decision = store.try_charge(key, limit).await.unwrap();
            let (after, expected) = model.try_charged(limit, 0);
            match (decision, expected) {
                (LimitDecision::Allowed(_), LimitDecision::Allowed(_)) => {}
                (LimitDecision::Wait(wait), LimitDecision::Wait(expected)) => {
                    close(wait, expected, &format!("{limit:?}, {step}: refused"));
                }
                _ => panic!("{limit:?}, {step}: {decision:?}, not {expected:?}"),
            }
            model = after;
        }
    }
}

/// The store's clock moves on meanwhile; the model's stands still.
#[track_caller]
fn close(wait: Duration, expected: Duration, case: &str) {
    let late = expected.saturating_sub(wait);
    assert!(
        wait <= expected && late < Duration::from_mins(1),
        "{case}: {wait:?}, not {expected:?}"
    );
}

/// The lock ends by itself although an attempt comes every few milliseconds, and each failure doubles the next lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_by_itself_under_refused_attempts_and_doubles_with_counted_ones() {
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let redis = connect(keys.url(), keys.prefix()).await.unwrap();
    let local = LocalThrottles::new(Arc::new(SystemClock::new()));
    let stores: [(&str, &dyn ThrottleStore); 2] = [("redis", &redis), ("local", &local)];
    let rate = Rate {
        count: 3,
        per: Duration::from_millis(600),
    };
    for (name, store) in stores {
        for doubling in [false, true] {
            let (key, limit) = ([7 + u8::from(doubling); 16], Limit { rate, doubling });
            let (mut allowed, mut refused) = (0, 0);
            let mut longest = Duration::ZERO;
            let begun = Instant::now();
            while allowed < 6 {
                match store.try_charge(key, limit).await.unwrap() {
                    LimitDecision::Allowed(_) => allowed += 1,
                    LimitDecision::Wait(wait) => {
                        refused += 1;
                        longest = longest.max(wait);
                    }
                }
                assert!(begun.elapsed() < Duration::from_mins(1), "{name}: locked for ever");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            println!("{name}, doubling {doubling}: {refused} refused, the longest wait was {longest:?}");
            let bound = rate.interval() * if doubling { 8 } else { 1 };
            assert!(longest <= bound, "{name}, {doubling}: {longest:?}");
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
            // Two of three charges are refunded.
            if let (LimitDecision::Allowed(charge), LimitDecision::Allowed(modelled)) = (decision, expected)
                && step % 3 > 0
            {
                assert_eq!(charge.over_limit, modelled.over_limit, "{limit:?}, {step}");
                store.refund(key, charge).await.unwrap();
                model = model.refunded(modelled);
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
    // A counter lives until its state equals that of a new one. After failures over the limit that takes longer.
    let limit = limit(2, true);
    for longest in [
        limit.rate.interval(),
        limit.rate.per.saturating_sub(limit.rate.interval()) + limit.rate.interval().min(MAX_WAIT) + MAX_WAIT,
    ] {
        let decision = store.try_charge(key, limit).await.unwrap();
        assert!(matches!(decision, LimitDecision::Allowed(_)));
        let life: i64 = server
            .command(&["PTTL", &format!("cs:t:{}", "ab".repeat(16))])
            .parse()
            .unwrap();
        let bounds = longest.saturating_sub(Duration::from_mins(1)).as_millis()..=longest.as_millis();
        assert!(bounds.contains(&u128::try_from(life).unwrap()), "{life}: {bounds:?}");
    }
}
