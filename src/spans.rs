//! The spans of a call, for traces.
//!
//! They have one target, so that one filter tells them from everything else: where no traces are sent they cost the load
//! of a flag. A span names methods, statements and scripts of ours, never what came in or goes out.

/// The target of every span.
pub const SPANS: &str = "countersign_spans";
