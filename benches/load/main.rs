//! Load: this service against an empty one, in the same run.
//!
//! `cargo bench --bench load [CASE]…` runs all cases or the named ones (`validate`, `check`, `batch`, `verifier`, `refresh`,
//! `embedded`; see `soak` for two that take minutes). The real server (release, production defaults, caller's token checked) has one core for itself, this
//! generator the other; the server that it is measured against is an empty tonic service that gets the very same
//! requests and gives answers of the same size. Rounds alternate and medians count, because the machine is shared: read
//! the ratios, not the figures. `LOAD_SECONDS` (default 2) is the length of a round, `LOAD_ROUNDS` (5) how many.
//!
//! Writes `docs/load.json` and `docs/load.svg`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that cannot go on says so by panicking, and prints what it finds"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "figures and stopwatches"
)]
#![expect(unreachable_pub, reason = "modules of a program, whose `pub` is for each other")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod bare;
mod cases;
mod edge;
mod generator;
mod place;
mod refresh;
mod report;
mod soak;
mod world;

/// The service's own, so that the empty one is measured with it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    // The servers that we are measured against are this program, started again.
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare-empty", size] => return bare::empty(size.parse().unwrap()),
        ["bare-verify", size, key] => return bare::verify(size.parse().unwrap(), key),
        ["bare-refresh", database, redis] => return bare::refresh(database, redis),
        _ => {}
    }
    place::pin_self(place::GENERATOR);
    let wanted = |case: &str| words.is_empty() || words.iter().any(|word| word == case);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lines = runtime.block_on(async {
        let mut lines = Vec::new();
        let named = |case: &str| words.iter().any(|word| word == case);
        if ["validate", "check", "batch", "verifier"].into_iter().any(wanted) || named("memory") || named("mixed") {
            let world = world::World::start().await;
            if wanted("validate") {
                lines.extend(cases::validate(&world).await);
            }
            if wanted("check") {
                lines.extend(edge::check(&world).await);
            }
            if wanted("batch") {
                lines.extend(cases::batch(&world).await);
            }
            if wanted("verifier") {
                lines.extend(cases::verifier(&world).await);
            }
            if named("memory") {
                lines.extend(soak::memory(&world).await);
            }
            if named("mixed") {
                lines.extend(soak::mixed(&world).await);
            }
        }
        if wanted("refresh") {
            lines.extend(refresh::clustered().await);
        }
        if wanted("embedded") {
            lines.extend(refresh::embedded().await);
        }
        lines
    });
    report::tell(&lines, words.is_empty());
}
