//! Countersign as strangers' programs meet it: clients, and libraries that verify what it signs, that know it by its
//! protocol and its published keys alone.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod envoy;
mod grpc;
mod libraries;
