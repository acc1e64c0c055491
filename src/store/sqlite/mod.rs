//! The embedded stores: one SQLite file in the data folder. The rules of users, clients, keys and the audit trail are
//! in `store::durable`.
//!
//! Every call is one closure that runs as one transaction on the one thread that writes. It is atomic and safe to
//! cancel by construction, because no lock is held across an `await`.

pub mod database;
mod driver;
mod error;
mod feed;
mod folder;
mod revoke;
mod sessions;
mod time;
mod worker;

pub use database::{Database, Mode, Tx};
pub use folder::close_file;

#[cfg(test)]
mod tests;
