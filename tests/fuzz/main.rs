//! The token parsers decide correctly about any bytes.
//!
//! The rules are in `jwt` and `refresh_token`. They are checked with mutated inputs for five seconds each;
//! `COUNTERSIGN_FUZZ_SECONDS=600 cargo test --all-features --test fuzz -- --nocapture` is the long run. No nightly
//! compiler is needed: the inputs are made from valid tokens and from every token of the published vectors, and some
//! are signed or tagged after the mutation, to reach the code behind the signature check.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod jwt;
mod mutate;
mod refresh_token;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mutate::Mutator;

/// Duration for each parser. The sequence of inputs is the same in every run.
const SECONDS: u64 = 5;

fn fuzz_parser(name: &str, seeds: &[Vec<u8>], dictionary: &[&[u8]], check: impl Fn(&[u8]) -> bool) -> String {
    let seconds =
        std::env::var_os("COUNTERSIGN_FUZZ_SECONDS").map_or(SECONDS, |text| text.to_str().unwrap().parse().unwrap());
    let time = Duration::from_secs(seconds);
    let mut mutator = Mutator::new(seeds, dictionary);
    let (mut inputs, mut accepted, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
    let start = now();
    for seed in seeds {
        check(seed);
    }
    while start.elapsed() < time {
        let input = mutator.input();
        let before = now();
        match catch_unwind(AssertUnwindSafe(|| check(&input))) {
            Ok(good) => accepted += u64::from(good),
            // The panic message is printed already.
            Err(panicked) => {
                drop(panicked);
                panic!("the {inputs}th input: {}", input.escape_ascii());
            }
        }
        slowest = slowest.max(before.elapsed());
        inputs += 1;
    }
    assert!(inputs > 1000, "{inputs}");
    format!(
        "{name}: {inputs} inputs from {} seeds, {accepted} accepted, slowest {slowest:?}",
        seeds.len()
    )
}

#[expect(clippy::disallowed_methods, reason = "the tests' own stopwatch")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn access_tokens() {
    println!(
        "{}",
        fuzz_parser("access tokens", &jwt::seeds(), jwt::DICTIONARY, jwt::check)
    );
}

#[test]
fn refresh_tokens() {
    println!(
        "{}",
        fuzz_parser("refresh tokens", &refresh_token::seeds(), &[], refresh_token::check)
    );
}
