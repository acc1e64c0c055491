//! The service against a model of sessions: the same random sequences of logins, refreshes of any generation,
//! revocations at every level, lost writes and lost stores, on every backend.
//!
//! The long run takes 100,000 steps on each backend (the default is 2,000):
//! `COUNTERSIGN_MODEL_STEPS=100000 cargo test --all-features --test model`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod history;
mod machine;
mod start;
mod system;
mod users;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use machine::{Model, Outcome, Step};
use system::System;

/// Steps of one sequence: enough to reach every state of a session, few enough to read in a failure.
const SEQUENCE_LENGTH: usize = 60;

fn steps() -> u32 {
    std::env::var_os("COUNTERSIGN_MODEL_STEPS")
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(2_000)
}

fn step(with_losses: bool) -> impl Strategy<Value = Step> {
    let pick = any::<prop::sample::Index>();
    let attempt = prop_oneof![Just(""), Just("a"), Just("b")];
    let (again, unrecorded) = (pick.clone(), attempt.clone());
    let kept = prop_oneof![
        6 => (0..3usize, 0..3usize).prop_map(|(user, client)| Step::Issue { user, client }),
        12 => (pick.clone(), attempt.clone()).prop_map(|(session, attempt)| Step::RefreshNewest { session, attempt }),
        8 => (pick.clone(), pick.clone(), attempt)
            .prop_map(|(session, generation, attempt)| Step::Refresh { session, generation, attempt }),
        1 => (pick.clone(), pick.clone()).prop_map(|(session, generation)| Step::RevokeToken { session, generation }),
        1 => pick.clone().prop_map(|session| Step::RevokeSession { session }),
        1 => (0..3usize, prop::option::of(pick)).prop_map(|(user, keep)| Step::RevokeUser { user, keep }),
        1 => (0..3usize).prop_map(|client| Step::RevokeClient { client }),
        1 => Just(Step::RevokeEverything),
        2 => (0..3usize, any::<bool>()).prop_map(|(user, disabled)| Step::SetDisabled { user, disabled }),
    ];
    if with_losses {
        prop_oneof![
            30 => kept,
            3 => (again.clone(), again, unrecorded)
                .prop_map(|(session, generation, attempt)| Step::RefreshUnrecorded { session, generation, attempt }),
            3 => (0..3usize).prop_map(|user| Step::Snapshot { user }),
            3 => (0..3usize).prop_map(|user| Step::Restore { user }),
            1 => (0..3usize).prop_map(|user| Step::Lose { user }),
        ]
        .boxed()
    } else {
        kept.boxed()
    }
}

/// Runs `steps` steps on the model and the system, and describes the first difference. `with_losses`: whether the
/// session store may lose writes and the database may refuse revocations.
fn compare(
    runtime: &tokio::runtime::Runtime,
    system: &System,
    with_losses: bool,
    steps: u32,
    shrink: u32,
) -> Result<(), String> {
    let cases = steps.div_ceil(u32::try_from(SEQUENCE_LENGTH).unwrap());
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters: shrink,
        failure_persistence: None,
        ..Config::default()
    });
    let sequences = prop::collection::vec(step(with_losses), SEQUENCE_LENGTH);
    let done = runner.run(&sequences, |sequence| {
        runtime.block_on(async {
            let mut model = Model::new();
            let mut users = system.users().await;
            for (at, step) in sequence.iter().enumerate() {
                let expected = model.apply(step);
                let seen = system.apply(&mut users, step, &model).await;
                prop_assert_eq!(&seen, &expected, "step {}: {:?}", at, step);
                if let Outcome::Tokens {
                    session, generation, ..
                } = seen
                {
                    prop_assert!(
                        users.one_successor(session, generation),
                        "two successors of one generation"
                    );
                }
                for session in 0..model.sessions() {
                    // A strong check costs a statement, so only one session gets it, another one after each step.
                    let strongly = [false, true];
                    let strongly = &strongly[..=usize::from(at % model.sessions() == session)];
                    for strong in strongly {
                        let alive = users.access_is_active(system, session, *strong).await;
                        prop_assert_eq!(
                            alive,
                            model.is_alive(session),
                            "session {} after step {}: {:?}",
                            session,
                            at,
                            step
                        );
                    }
                }
            }
            Ok(())
        })
    });
    done.map_err(|failure| failure.to_string())
}

#[expect(clippy::print_stdout, reason = "the test prints what it measured")]
fn assert_same(runtime: &tokio::runtime::Runtime, system: &System, with_losses: bool) {
    let (start, steps) = (tokio::time::Instant::now(), steps());
    compare(runtime, system, with_losses, steps, 200).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{steps} steps without a divergence, in {:?}", start.elapsed());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn embedded() {
    let runtime = runtime();
    let system = runtime.block_on(System::embedded());
    assert_same(&runtime, &system, false);
}

#[test]
fn postgres_and_redis() {
    let runtime = runtime();
    let system = runtime.block_on(System::clustered(support::KeySpace::fresh(), None));
    assert_same(&runtime, &system, true);
}

#[test]
fn postgres_and_a_redis_cluster() {
    let runtime = runtime();
    let system = runtime.block_on(System::clustered(support::KeySpace::in_cluster(), None));
    assert_same(&runtime, &system, true);
}
