//! How the costs of operations grow with the number of users: `cargo bench --bench growth`.
//!
//! The real service (release build) runs on Postgres and Redis of its own, first with `GROWTH_SMALL` (100,000) and then with
//! `GROWTH_LARGE` (10,000,000) users with a session each, always with `GROWTH_REVOCATIONS` (1,000,000) revocations that have
//! not expired, 10,000 clients, and one user with 50 sessions. The rows and records are those that the service makes, with
//! other ids. Each operation takes users from the whole range at random. The table shows, for both sizes, the time of a call
//! and the processor time of service, Postgres and Redis together; then come sizes, and the work that churn leaves to
//! autovacuum.
//!
//! `LOAD_SECONDS` (2) is the length of a round, `LOAD_ROUNDS` (5) the number of rounds; medians count. `GROWTH_CHURN_SECONDS`
//! (20) is the length of the churn. The whole run takes about 25 minutes, 11 GB of disk and 12 GB of memory on two cores. A short
//! one: `GROWTH_SMALL=10000 GROWTH_LARGE=100000 GROWTH_REVOCATIONS=10000 LOAD_ROUNDS=1`. Everything is removed at the end.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark panics when it cannot go on, and prints its results"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "figures and stopwatches"
)]
#![expect(
    unreachable_pub,
    reason = "`pub` items of these modules are for the other modules of this program"
)]

#[path = "../support/mod.rs"]
mod common;
#[path = "../../tests/support/mod.rs"]
mod support;

mod deployment;
mod maintenance;
mod operations;
mod population;
mod storage;
mod table;

use common::{baseline, callers, cores, figures, generator, processor};

/// The allocator of the service, so that the baseline uses it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    // The baseline server is this program in another process.
    if let ["bare-refresh", database, redis, signs] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return baseline::refresh(database, redis, !signs.is_empty());
    }
    let sizes = [
        figures::from_environment("GROWTH_SMALL", 100_000),
        figures::from_environment("GROWTH_LARGE", 10_000_000),
    ];
    cores::pin_self(cores::GENERATOR);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(sizes));
}

async fn run(sizes: [u32; 2]) {
    let mut deployment = deployment::Deployment::start().await;
    let mut columns = Vec::new();
    let mut volumes = vec![storage::Volume::of(&deployment).await];
    for size in sizes {
        deployment.grow(size).await;
        volumes.push(storage::Volume::of(&deployment).await);
        let mut column = operations::measure(&mut deployment).await;
        column.extend(maintenance::measure(&deployment).await);
        columns.push(column);
    }
    table::print(sizes, &columns);
    storage::print(&deployment, &volumes);
    storage::churn(&mut deployment).await;
}
