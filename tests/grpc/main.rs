//! The frame around every call, through a real port: who may call, deadlines, limits, panics, the end.
//!
//! Behind the frame stands a service that does as its caller says, so that what is seen is the frame's doing.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod abuse;
mod ages;
mod callers;
mod calls;
mod drain;
mod floods;
mod frames;
mod reflection;
mod server;
mod streams;
mod tls;
