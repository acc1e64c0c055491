//! What must happen when something breaks, on real servers. Each test is named after what breaks.

#[path = "../support/mod.rs"]
mod support;

mod harness;
