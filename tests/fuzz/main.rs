//! Whatever the bytes: the readers of tokens decide, and never wrongly.
//!
//! What must hold of every input stands in `jwt` and `refresh_token`. It is held against mutated inputs for five seconds
//! each; `COUNTERSIGN_FUZZ_SECONDS=600 cargo test --all-features --test fuzz -- --nocapture` is the long run. No nightly
//! compiler is needed: the inputs are made from good tokens and from every token of the published vectors, and some are
//! signed or tagged rightly after they were mutated, so that the readers behind the signature are reached without luck.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod jwt;
mod mutate;
mod refresh_token;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mutate::Mutator;

/// Of each reader; the inputs are the same in every run, as far as it gets.
const SECONDS: u64 = 5;

fn hold(name: &str, seeds: &[Vec<u8>], words: &[&[u8]], check: impl Fn(&[u8]) -> bool) -> String {
    let seconds =
        std::env::var_os("COUNTERSIGN_FUZZ_SECONDS").map_or(SECONDS, |text| text.to_str().unwrap().parse().unwrap());
    let time = Duration::from_secs(seconds);
    let mut mutator = Mutator::new(seeds, words);
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
            // What was wrong is printed already.
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
    println!("{}", hold("access tokens", &jwt::seeds(), jwt::WORDS, jwt::check));
}

#[test]
fn refresh_tokens() {
    println!(
        "{}",
        hold("refresh tokens", &refresh_token::seeds(), &[], refresh_token::check)
    );
}
