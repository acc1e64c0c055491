//! The parsers of everything that others send, store or configure decide correctly about any bytes.
//!
//! Each module is one target: properties that hold for every input. Every test run checks the seeds of a target, those in
//! `corpus/TARGET` if there are any, and inputs that are mutated from both, the same ones in every run. `COUNTERSIGN_FUZZ_INPUTS=1000000
//! cargo test --all-features --test fuzz -- --nocapture` checks more of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "../simulation/lua.rs"]
#[expect(dead_code, reason = "the simulation uses the rest")]
mod lua;
#[path = "../conformance/lua/packing.rs"]
#[expect(unreachable_pub, reason = "the conformance tests use it from other modules")]
mod packing;

mod check_request;
mod clock;
mod config;
mod credentials;
mod import;
mod input;
mod jwt;
mod keys;
mod mutate;
mod record;
mod refresh_token;
mod runtime;
mod session;
mod target;
mod tokens;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutate::Mutator;
use target::Target;

/// Every target, by name.
const TARGETS: [&Target; 9] = [
    &check_request::TARGET,
    &config::TARGET,
    &credentials::TARGET,
    &import::TARGET,
    &jwt::TARGET,
    &keys::TARGET,
    &record::TARGET,
    &refresh_token::TARGET,
    &tokens::TARGET,
];

#[expect(clippy::print_stdout, reason = "a test says what it checked")]
fn run(target: &Target) {
    let count = std::env::var_os("COUNTERSIGN_FUZZ_INPUTS")
        .map_or(target.inputs, |text| text.to_str().unwrap().parse().unwrap());
    let mut known = (target.seeds)();
    known.extend(target.corpus());
    let dictionary = target.dictionary();
    let mut mutator = Mutator::new(&known, &dictionary);
    let mut accepted = 0_u64;
    let mutated = (0..count).map(|_| mutator.input());
    for (number, input) in known.iter().cloned().chain(mutated).enumerate() {
        match catch_unwind(AssertUnwindSafe(|| (target.check)(&input))) {
            Ok(is_accepted) => accepted += u64::from(is_accepted),
            // The panic message is printed already.
            Err(panicked) => {
                drop(panicked);
                panic!("{}: input {number}: {}", target.name, input.escape_ascii());
            }
        }
    }
    // Otherwise only refusals would be tested.
    assert!(accepted > 0, "{}: no input was accepted", target.name);
    println!(
        "{}: {count} inputs from {} seeds, {accepted} accepted",
        target.name,
        known.len()
    );
}

#[test]
fn every_target_has_a_dictionary_and_no_other_is_left() {
    let mut names: Vec<String> = std::fs::read_dir(target::folder().join("dictionaries"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, TARGETS.map(|target| target.name));
}

#[test]
fn access_tokens() {
    run(&jwt::TARGET);
}

#[test]
fn authorization_headers_and_cookies() {
    run(&credentials::TARGET);
}

#[test]
fn configurations() {
    run(&config::TARGET);
}

#[test]
fn imported_users() {
    run(&import::TARGET);
}

#[test]
fn keys_and_key_sets() {
    run(&keys::TARGET);
}

#[test]
fn page_and_resume_tokens() {
    run(&tokens::TARGET);
}

#[test]
fn refresh_tokens() {
    run(&refresh_token::TARGET);
}

#[test]
fn requests_of_envoy() {
    run(&check_request::TARGET);
}

#[test]
fn session_records() {
    run(&record::TARGET);
}
