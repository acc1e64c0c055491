//! What an operator relies on: certificates that are replaced while it serves, an end without a lost call, limits of the
//! machine, metrics, traces, `doctor`, and that what `deploy/` names exists.
//!
//! `COUNTERSIGN_TEST_ROUNDS=50 cargo test --all-features --test ops drain` is the long form of the drain; by default it
//! goes round three times.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod doctor;
mod drain;
mod exposure;
mod files;
mod manager;
mod pki;
mod scrape;
mod side_port;
mod traces;
mod versions;
