//! One list of cases for each store trait, run on every backend, so that every backend keeps what the trait promises.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]
#![expect(
    unreachable_pub,
    reason = "the items are shared by the files of this test crate only"
)]

#[path = "../support/mod.rs"]
mod support;

/// Runs each case on each backend, on a new store: `on_each!([sqlite, postgres] [case_a, case_b]);`
///
/// For each backend, the module `fresh` in scope has an `async fn` of the same name that makes a store. A case is an
/// `async fn` that takes that store.
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
mod lua;
mod postgres;
mod redis;
mod sessions;
