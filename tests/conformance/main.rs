//! One list of cases for each store trait, run on every backend: what a trait promises, no backend may leave out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]
#![expect(unreachable_pub, reason = "what the files of a test crate share is nobody else's")]

#[path = "../support/mod.rs"]
mod support;

/// Runs each case on each backend, on a fresh store: `on_each!([sqlite, postgres] [case_a, case_b]);`
///
/// The module `fresh` in scope has an `async fn` named like each backend that makes a store of it; a case is an
/// `async fn` that takes that.
macro_rules! on_each {
    ([$($backend:ident),+] $cases:tt) => {
        $(on_each!(@ $backend $cases);)+
    };
    (@ $backend:ident [$($case:ident),+ $(,)?]) => {
        mod $backend {
            $(
                #[tokio::test]
                async fn $case() {
                    let fresh = super::fresh::$backend().await;
                    super::$case(fresh).await;
                }
            )+
        }
    };
}

mod durable;
mod postgres;
mod redis;
mod sessions;
