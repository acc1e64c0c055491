//! The durable store of a cluster: PostgreSQL. The rules are in `store::durable`; here are the connections, the feed of
//! revocations and the statement that records one.
//!
//! * Every call runs in a task of its own, as one statement or as one transaction on locked rows. If the caller goes
//!   away, the task still ends what it began, so no connection is left in the middle of a transaction.
//! * Behind a pooler in transaction mode (pgbouncer) two messages on one connection may reach two servers. `connect`
//!   finds out at the start whether the server itself answers. If a pooler answers, every statement runs in a
//!   transaction, is prepared without a name and sets its own time limits.

mod bridge;
mod commits;
mod connect;
mod connections;
mod driver;
mod error;
mod feed;
mod migrate;
mod options;
mod permits;
mod pool;
mod redis_nodes;
mod revoke;
mod standbys;
mod statement;
mod store;
mod timeline;
mod work;

pub use feed::FeedPosition;
pub use pool::PoolUsage;
pub use standbys::{Room, Standbys};
pub use store::{CONNECTIONS_BESIDE_POOL, Look, PostgresConfig, PostgresStore};
pub use timeline::{TimelineCheck, TimelineReport};
