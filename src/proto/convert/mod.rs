//! Between the model and the messages, for server and client alike. What only the server speaks of (users, clients,
//! audit) is in `grpc::convert`.

pub mod claims;
pub mod json;
pub mod key;
pub mod reason;
pub mod revocation;
pub mod time;
