//! Shared by the benchmarks that run the service: placement, the load generator, processor times, and baseline servers. A
//! benchmark includes it by `#[path = "../support/mod.rs"] mod common;`.

#![allow(dead_code, reason = "each benchmark uses only some of the items")]

pub mod baseline;
pub mod callers;
pub mod cores;
pub mod figures;
pub mod generator;
pub mod processor;
