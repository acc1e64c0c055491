//! A primary of Postgres with a standby, and a Redis, for tests that promote the standby.

use super::serve::Storage;
use super::{Countersign, Database, Postgres, Redis};

/// The servers.
#[derive(Debug)]
pub struct Replicated {
    pub primary: Postgres,
    /// Follows the primary; not synchronous.
    pub standby: Postgres,
    pub redis: Redis,
    /// On the primary.
    pub database: Database,
}

impl Replicated {
    /// Starts them.
    pub async fn start() -> Self {
        let started = tokio::task::spawn_blocking(|| {
            let primary = Postgres::start(&[("wal_keep_size", "64MB")]);
            let standby = primary.streaming_standby("a");
            (primary, standby, Redis::start(&[]))
        });
        let (primary, standby, redis) = started.await.unwrap();
        Self {
            database: primary.database().await,
            primary,
            standby,
            redis,
        }
    }
}

/// Starts a replica in a blocking thread, so that the proxies' tasks go on.
pub async fn serve(storage: &Storage) -> Countersign {
    let storage = storage.clone();
    tokio::task::spawn_blocking(move || storage.serve(&[])).await.unwrap()
}
