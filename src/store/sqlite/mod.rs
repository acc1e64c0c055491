//! The embedded stores: one SQLite file in the data folder.
//!
//! Every verb is one closure that runs as one transaction on the one writer thread, so it is atomic and safe to cancel
//! by construction: no lock is ever held across an `await`.

mod audit;
mod clients;
pub mod database;
mod error;
mod feed;
mod folder;
mod keyring;
mod keys;
mod logins;
mod passwords;
mod people;
mod record;
mod registry;
mod revocations;
mod rows;
mod sessions;
mod store;
mod time;
mod users;
mod worker;

pub use database::{Database, Mode, Tx};
pub use store::SqliteStore;

#[cfg(test)]
mod tests;
