//! Sizes of rounds, and what is computed from them.

use std::time::Duration;

use super::generator::Round;

pub fn round_length() -> Duration {
    Duration::from_secs_f64(from_environment("LOAD_SECONDS", 2.0))
}

pub fn rounds() -> usize {
    from_environment("LOAD_ROUNDS", 5)
}

pub fn from_environment<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn speed(rounds: &[Round]) -> f64 {
    median(rounds.iter().map(Round::per_second))
}

pub fn cpu(rounds: &[Round]) -> f64 {
    median(rounds.iter().map(Round::cpu_per_call))
}
