//! Conversions between the model and the protobuf messages that server and client share. Those of the server only (users,
//! clients, audit) are in `grpc::convert`.

pub mod claims;
pub mod json;
pub mod key;
pub mod reason;
pub mod revocation;
pub mod time;
