//! Counters of failed attempts: the Lua script and the Rust function count alike.

use std::time::Duration;

use countersign::store::ThrottleStore as _;
use countersign::store::throttles::{Cell, LONGEST_WAIT, Limit, Rate};

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
