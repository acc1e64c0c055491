//! The service over gRPC: who may call what, within which limits, and what each answer looks like on the wire.

pub mod status;
