//! The spans of a call, for traces.
//!
//! All spans have one target, so that a filter can select them. If no traces are sent, a span costs one load of a flag. A
//! span contains names of methods, statements and scripts, never data of requests or responses.

/// The `tracing` target of every span.
pub const SPANS: &str = "countersign_spans";
