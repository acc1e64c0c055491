//! Failovers of the stores under load: what becomes of honest sessions, of acknowledged revocations, and for how long calls
//! fail. Each scenario runs on real Sentinels, a real cluster, streaming replication and `PgBouncer`.
//!
//! Three replicas and one seed by default. The full size is `tests/store-versions`, or for the stores of this machine
//! `COUNTERSIGN_FAILOVER_REPLICAS=3,6 COUNTERSIGN_FAILOVER_SEEDS=5 cargo test --all-features --test failover -- --test-threads 1
//! --nocapture`. Each run prints a line with its figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod judgement;
mod postgres;
mod redis;
mod replicas;
mod run;
mod traffic;
