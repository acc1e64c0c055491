//! The rules of several replicas, their feeds, watchers and verifiers, and the real embedded store, in one thread with a
//! paused clock, over the real scripts of Redis in a small Lua. Every delay, fault and choice comes from one seed, so a seed repeats a run byte for byte. The checker of
//! histories judges what the clients saw.
//!
//! The long run, on all cores: `COUNTERSIGN_SIMULATION_SECONDS=7200 cargo test --release --all-features --test simulation
//! random_schedules -- --nocapture`. It prints how many schedules it ran. `COUNTERSIGN_SIMULATION_FIRST_SEED=1000000` begins
//! with another seed. A seed that breaks a rule is named with the command that runs it again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod announcements;
mod clients;
mod database;
mod judge;
mod link;
mod lua;
mod mutants;
mod plan;
mod record;
mod replica;
mod run;
mod sessions;
mod sim;
mod verifier;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::size;
use tokio::time::Instant;

use mutants::Mutant;
use run::{run, run_with};

/// How long the search for a defect may go on, in seeds.
const MUTANT_SEEDS: u64 = 300;

fn replay(seed: u64) -> String {
    format!("COUNTERSIGN_SIMULATION_SEED={seed} cargo test --all-features --test simulation one_seed -- --nocapture")
}

/// Runs one seed after the other on one thread until `deadline`. Returns how many calls the clients made.
fn run_seeds(next: &AtomicU64, deadline: Instant) -> usize {
    let mut calls = 0;
    while Instant::now() < deadline {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let finished = run(seed);
        calls += finished.calls;
        let findings = finished.findings.join("\n");
        assert!(
            findings.is_empty(),
            "seed {seed}: {findings}\nRun it again:\n{}",
            replay(seed)
        );
    }
    calls
}

#[test]
fn random_schedules_break_no_rule() {
    let seconds = size("COUNTERSIGN_SIMULATION_SECONDS", 20);
    let first = size("COUNTERSIGN_SIMULATION_FIRST_SEED", 1);
    let (start, next) = (Instant::now(), AtomicU64::new(first));
    let deadline = start + Duration::from_secs(seconds);
    let threads = std::thread::available_parallelism().unwrap().get();
    let calls: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| run_seeds(&next, deadline)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let (schedules, took) = (next.into_inner() - first, start.elapsed());
    let each = took / u32::try_from(schedules).unwrap().max(1);
    println!("seeds from {first}: {schedules} schedules with {calls} calls in {took:?}, one every {each:?}");
}

/// Shows the trace and the findings of a seed.
#[test]
fn one_seed() {
    let finished = run(size("COUNTERSIGN_SIMULATION_SEED", 1));
    println!("{}", finished.trace);
    assert!(finished.findings.is_empty(), "{}", finished.findings.join("\n"));
}

#[test]
fn a_seed_repeats_a_run_byte_for_byte() {
    for seed in 0..8 {
        let (one, two) = (run(seed), run(seed));
        let differs = one.trace.lines().zip(two.trace.lines()).find(|(one, two)| one != two);
        assert_eq!(differs, None, "seed {seed}");
        assert!(one.trace == two.trace, "seed {seed}: one trace is longer");
    }
}

#[expect(clippy::print_stdout, reason = "the test prints what it found")]
fn assert_found(mutant: Mutant) {
    let start = Instant::now();
    for seed in 0..MUTANT_SEEDS {
        let finished = run_with(seed, Some(mutant), Some(mutant));
        if let Some(finding) = finished.findings.first() {
            println!("{mutant:?}: seed {seed}, {:?}: {finding}", start.elapsed());
            let sound = run_with(seed, Some(mutant), None);
            assert_eq!(sound.findings, Vec::<String>::new(), "seed {seed} without the defect");
            return;
        }
    }
    panic!("{mutant:?} was not found");
}

#[test]
fn a_store_that_checks_and_then_writes_is_found() {
    assert_found(Mutant::CheckThenWrite);
}

#[test]
fn a_reuse_without_a_tombstone_is_found() {
    assert_found(Mutant::NoTombstone);
}

#[test]
fn a_wall_clock_instead_of_epochs_is_found() {
    assert_found(Mutant::WallClock);
}

#[test]
fn a_grace_that_is_ignored_is_found() {
    assert_found(Mutant::GraceIgnored);
}

#[test]
fn an_attempt_id_that_is_ignored_is_found() {
    assert_found(Mutant::AttemptIgnored);
}

#[test]
fn a_replay_that_makes_a_second_successor_is_found() {
    assert_found(Mutant::ReplayMakesSecondSuccessor);
}

#[test]
fn a_refresh_that_asks_no_revocations_is_found() {
    assert_found(Mutant::RefreshAsksNoRevocations);
}

#[test]
fn a_reuse_that_ends_another_session_is_found() {
    assert_found(Mutant::ReuseEndsAnotherSession);
}

#[test]
fn a_feed_that_misses_revocations_is_found() {
    assert_found(Mutant::FeedMissesRevocations);
}

#[test]
fn a_standby_to_which_nothing_is_written_back_is_found() {
    assert_found(Mutant::NothingWrittenBack);
}

#[test]
fn a_deadline_that_is_ignored_is_found() {
    assert_found(Mutant::DeadlineIgnored);
}
