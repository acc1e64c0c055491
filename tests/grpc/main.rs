//! The pipeline around every call, through a real port: authentication, deadlines, limits, panics, and stopping.
//!
//! The service behind it follows instructions in the request, so that the tests see only the pipeline's behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod abuse;
mod ages;
mod callers;
mod calls;
mod drain;
mod floods;
mod frames;
mod gzip;
mod reflection;
mod server;
mod service;
mod streams;
mod tls;
mod unfinished;
mod verifier;
