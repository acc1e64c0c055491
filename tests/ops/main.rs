//! Operations: certificates that are replaced while the server runs, shutdown without a lost call, limits of the
//! machine, metrics, traces, `doctor`, and the files of `deploy/`.
//!
//! `COUNTERSIGN_TEST_ROUNDS=50 cargo test --all-features --test ops drain` is the long run of the drain; the default is
//! three rounds.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod audit_events;
mod broken;
mod certificates;
mod connections;
mod doctor;
mod drain;
mod exposure;
mod files;
mod health;
mod logs;
mod managed;
mod manager;
mod outside;
mod pages;
mod pki;
mod rights;
mod rotation;
mod scrape;
mod side_port;
mod traces;
mod trust;
mod versions;
