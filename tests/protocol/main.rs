//! A model of sessions, revocations and their feed, searched completely within bounds. `docs/model.md` explains it.
//!
//! `cargo test --all-features --test protocol explore -- --ignored` shows it in a browser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]
#![expect(
    unreachable_pub,
    reason = "the items are shared by the files of this test crate only"
)]

mod bounds;
mod faults;
mod judge;
mod page;
mod possible;
mod properties;
mod real;
mod refresh;
mod scopes;
mod state;
mod stores;
mod system;
