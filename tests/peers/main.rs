//! Other projects' programs with Countersign: gRPC clients that know only its protocol, libraries that verify its tokens with
//! its published keys, and a browser.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod envoy;
mod grpc;
mod libraries;
mod stubs;
