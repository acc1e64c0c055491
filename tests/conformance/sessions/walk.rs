//! Random sequences: whatever is presented in whatever order, the store decides as the model does.

use std::time::Duration;

use countersign::model::record::{Next, SessionRecord};
use countersign::model::session::Presented;
use countersign::model::{ReusePolicy, Rotation};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::backends::{Backend, IDLE, LONG, attempt, session};

/// One presented token: its distance from the current generation, and the other inputs.
#[derive(Clone, Debug)]
struct Step {
    offset: i64,
    attempt: &'static str,
    grace: Duration,
    policy: ReusePolicy,
    other_era: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![
        12 => Just(0_i64),
        6 => Just(-1_i64),
        2 => Just(-2_i64),
        1 => -5..-2_i64,
        3 => 1..4_i64,
        1 => prop::sample::select(vec![99_i64, 100, 101, 1000]),
    ];
    let attempts = prop::sample::select(vec!["", "a", "b"]);
    let graces = prop_oneof![1 => Just(Duration::ZERO), 6 => Just(LONG)];
    let policies = prop::sample::select(vec![ReusePolicy::Strict, ReusePolicy::Tolerant]);
    (offset, attempts, graces, policies, prop::bool::weighted(0.05)).prop_map(
        |(offset, attempt, grace, policy, other_era)| Step {
            offset,
            attempt,
            grace,
            policy,
            other_era,
        },
    )
}

pub async fn random_sequences_follow_the_model(backend: Backend) {
    let mut runner = TestRunner::deterministic();
    let walks = prop::collection::vec(step(), 1..25);
    for walk in 0..60 {
        let new = session();
        let idle_expires = backend.store.create(&new, 1000).await.unwrap().idle_expires;
        let mut now = idle_expires.minus(IDLE);
        let mut model = Some(SessionRecord::begin(&new, now));
        for step in walks.new_tree(&mut runner).unwrap().current() {
            let current = model.as_ref().map_or(0, |record| i64::from(record.generation));
            let generation = u32::try_from((current + step.offset).max(0)).unwrap();
            let presented = Presented {
                grace: step.grace,
                policy: step.policy,
                era: if step.other_era { 2 } else { 1 },
                ..attempt(&new, generation, step.attempt)
            };
            let rotation = backend.rotate(&presented).await;
            // The store's clock, if it is known; otherwise the outcome does not depend on it.
            now = rotation.success().map_or(now, |rotated| rotated.now);
            let (expected, next) = match &model {
                Some(record) => record.present(&presented, now),
                None => (Rotation::Unknown, Next::Same),
            };
            assert_eq!(rotation, expected, "walk {walk}: {step:?} on {model:?}");
            match next {
                Next::Same => {}
                Next::Become(record) => model = Some(*record),
                Next::Gone => model = None,
            }
        }
    }
}
