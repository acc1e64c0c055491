//! The embedded stores: one SQLite file in the data folder.
//!
//! Every verb is one closure that runs as one transaction on the one writer thread, so it is atomic and safe to cancel
//! by construction: no lock is ever held across an `await`.

pub mod database;
mod error;
mod folder;
mod sessions;
mod worker;

pub use database::{Database, Mode, Tx};

#[cfg(test)]
mod tests;
