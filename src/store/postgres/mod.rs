//! The durable store of a cluster: PostgreSQL.
//!
//! * A verb is one statement where that reads well, else one named transaction on locked rows. Either runs in a task of
//!   its own, because a caller who goes away must not leave a connection in the middle of something.
//! * Behind a pooler in transaction mode (pgbouncer) two messages of one connection may reach two servers. Whether the
//!   server itself answers is found out at the start (`connect`); if not, every statement runs in a transaction, is
//!   prepared without a name and brings its time limits along.

mod audit;
mod clients;
mod connect;
mod dead;
mod error;
mod feed;
mod keyring;
mod keys;
mod logins;
mod migrate;
mod passwords;
mod people;
mod pool;
mod record;
mod registry;
mod revocations;
mod rows;
mod statement;
mod store;
mod users;

pub use pool::PoolUsage;
pub use store::{PostgresConfig, PostgresStore};
