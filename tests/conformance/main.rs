//! One list of cases for every backend.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(unreachable_pub, reason = "what the files of a test crate share is nobody else's")]

mod redis;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
