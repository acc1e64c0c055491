//! Load benchmark: this service compared with a baseline server, in the same run.
//!
//! `cargo bench --bench load [CASE]…` runs the named cases, or all of them (`validate`, `check`, `batch`, `verifier`, `headerless`,
//! `refresh`, `embedded`; `soak` and `replicas` have more that take minutes). The real server (release build, production defaults, authenticated
//! callers) has one core to itself, and this generator has the other one. The baseline is an empty tonic service that
//! receives the same requests and returns responses of the same size. The machine may be shared, so rounds alternate and the
//! median counts: read the ratios, not the figures. `LOAD_SECONDS` (default 2) is the length of a round, and `LOAD_ROUNDS`
//! (default 5) is their number.
//!
//! Writes `docs/load.json` and `docs/load.svg`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark panics when it cannot go on, and prints its results"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
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

mod cases;
mod cost;
mod edge;
mod headerless;
mod refresh;
mod replicas;
mod report;
mod server;
mod soak;

use common::{baseline, callers, cores, figures, generator, processor};

/// The allocator of the service, so that the baseline uses it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    // The baseline servers are this program in another process.
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare-empty", size] => return baseline::empty(size.parse().unwrap()),
        ["bare-verify", size, key] => return baseline::verify(size.parse().unwrap(), key),
        ["bare-refresh", database, redis, signs] => return baseline::refresh(database, redis, !signs.is_empty()),
        _ => {}
    }
    cores::pin_self(cores::GENERATOR);
    let wanted = |case: &str| words.is_empty() || words.iter().any(|word| word == case);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let rows = runtime.block_on(async {
        let mut rows = Vec::new();
        let named = |case: &str| words.iter().any(|word| word == case);
        if ["validate", "check", "batch", "verifier"].into_iter().any(wanted) || named("memory") || named("mixed") {
            let server = server::Server::start().await;
            if wanted("validate") {
                rows.extend(cases::validate(&server).await);
            }
            if wanted("check") {
                rows.extend(edge::check(&server).await);
            }
            if wanted("batch") {
                rows.extend(cases::batch(&server).await);
            }
            if wanted("verifier") {
                rows.extend(cases::verifiers(&server).await);
            }
            if named("memory") {
                rows.extend(soak::memory(&server).await);
            }
            if named("mixed") {
                rows.extend(Box::pin(soak::mixed(&server)).await);
            }
        }
        if wanted("headerless") {
            rows.extend(headerless::validate().await);
        }
        if named("replicas") {
            rows.extend(replicas::scale_out().await);
        }
        if wanted("refresh") {
            rows.extend(cost::clustered().await);
        }
        if wanted("embedded") {
            rows.extend(refresh::embedded().await);
        }
        rows
    });
    report::write(&rows, words.is_empty());
}
