//! Software that others wrote verifies what Countersign signs, knowing nothing but its published keys.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod envoy;
mod libraries;
