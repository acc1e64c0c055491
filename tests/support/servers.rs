//! A Postgres and a Redis of a test's own, each behind a proxy, for tests that break them.

use super::deployment::{add_user, for_tests};
use super::serve::Storage;
use super::{Countersign, Database, Postgres, Proxy, Redis};

/// Both servers, the network to them, and how to run Countersign there.
#[derive(Debug)]
pub struct Servers {
    /// How to run it.
    pub storage: Storage,
    /// The database, reached directly: what the test looks into.
    pub database: Database,
    /// The server of the database. It logs every statement.
    pub postgres: Postgres,
    /// The server of the sessions.
    pub redis: Redis,
    /// What Countersign takes for Postgres.
    pub to_postgres: Proxy,
    /// What Countersign takes for Redis.
    pub to_redis: Proxy,
}

impl Servers {
    /// Starts both, Redis with these further options, and adds the user `ada`.
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

    /// The same with this key of the configuration set.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.storage = self.storage.set(key, value);
        self
    }

    /// The same with the stores given up on as early as by default: for what is about that.
    #[must_use]
    pub fn giving_up_early(self) -> Self {
        self.set("storage.redis_timeout", "300ms")
            .set("storage.acquire_timeout", "1s")
            .set("storage.statement_timeout", "2s")
    }

    /// Adds a user; its id. The proxies' tasks go on meanwhile.
    pub async fn add_user(&self, name: &str) -> String {
        let (storage, name) = (self.storage.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || add_user(&storage, &name, &[]))
            .await
            .unwrap()
    }

    /// A replica.
    pub async fn serve(&self) -> Countersign {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || storage.serve(&[])).await.unwrap()
    }
}
