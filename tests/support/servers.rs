//! A Postgres and a Redis for one test, each behind a proxy, for tests that break them.

use super::deployment::{add_user, for_tests};
use super::serve::Storage;
use super::{Countersign, Database, Postgres, Proxy, Redis};

/// Both servers, the network to them, and the configuration to run Countersign on them.
#[derive(Debug)]
pub struct Servers {
    /// How to start replicas and subcommands.
    pub storage: Storage,
    /// The database, reached directly, for the test's own queries.
    pub database: Database,
    /// The database server. It logs every statement.
    pub postgres: Postgres,
    /// The server of the sessions.
    pub redis: Redis,
    /// The proxy to Postgres.
    pub to_postgres: Proxy,
    /// The proxy to Redis.
    pub to_redis: Proxy,
}

impl Servers {
    /// Starts both, Redis with these extra options, and adds the user `ada`.
    pub async fn start(redis: &[&str]) -> Self {
        let postgres = Postgres::start(&[("log_statement", "all")]);
        let redis = Redis::start(redis);
        let database = postgres.database().await;
        let to_postgres = Proxy::start(postgres.address()).await;
        let to_redis = Proxy::start(redis.address()).await;
        let (database_url, redis_url) = (
            database.url_through(to_postgres.address()),
            format!("redis://{}", to_redis.address()),
        );
        let storage = for_tests(Storage::clustered(&database_url, &redis_url, "cs"));
        let started = Self {
            storage,
            database,
            postgres,
            redis,
            to_postgres,
            to_redis,
        };
        started.add_user("ada").await;
        started
    }

    /// The same with this configuration key set.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.storage = self.storage.set(key, value);
        self
    }

    /// The same with the short default time-outs of the stores, for tests of time-outs.
    #[must_use]
    pub fn with_default_timeouts(self) -> Self {
        self.set("storage.redis_timeout", "300ms")
            .set("storage.acquire_timeout", "1s")
            .set("storage.statement_timeout", "2s")
    }

    /// Adds a user and returns the id. Runs in a blocking thread, so that the proxies' tasks go on.
    pub async fn add_user(&self, name: &str) -> String {
        let (storage, name) = (self.storage.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || add_user(&storage, &name, &[]))
            .await
            .unwrap()
    }

    /// Starts a replica.
    pub async fn serve(&self) -> Countersign {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || storage.serve(&[])).await.unwrap()
    }
}
