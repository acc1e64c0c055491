//! The three kinds of deployment, each fresh for a test.

use super::serve::Storage;
use super::{Countersign, Database, KeySpace};

/// The password of the tests' users.
pub const PASSWORD: &str = "correct horse battery staple";

/// Every scope that a caller may hold. The tests call without a token on loopback, unless they test authentication.
const ALL_SCOPES: &str = "countersign:issue,countersign:refresh,countersign:revoke,countersign:validate,\
     countersign:watch,countersign:users,countersign:clients,countersign:keys,countersign:audit";

/// Where the data is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentKind {
    /// One SQLite file, one process.
    Embedded,
    /// Postgres and one Redis.
    Clustered,
    /// Postgres and a Redis Cluster of three masters.
    RedisCluster,
}

/// Fresh stores, and the configuration to run Countersign on them.
#[derive(Debug)]
pub struct Deployment {
    /// How to start replicas and subcommands.
    pub storage: Storage,
    /// Its database; `None` if embedded.
    pub database: Option<Database>,
    /// Its keys in Redis; `None` if embedded.
    pub keys: Option<KeySpace>,
}

impl Deployment {
    /// Fresh stores of this kind.
    pub async fn fresh(deployment_kind: DeploymentKind) -> Self {
        let (database, keys) = match deployment_kind {
            DeploymentKind::Embedded => (None, None),
            DeploymentKind::Clustered => (Some(Database::fresh().await), Some(KeySpace::fresh())),
            DeploymentKind::RedisCluster => (Some(Database::fresh().await), Some(KeySpace::in_cluster())),
        };
        let storage = match (&database, &keys) {
            (Some(database), Some(keys)) => Storage::shared(database, keys),
            _ => Storage::embedded(),
        };
        let storage = for_tests(storage);
        // Commands that run before the first `serve` need a store.
        storage.run(&["migrate"]).succeed();
        Self {
            storage,
            database,
            keys,
        }
    }

    /// The same with this configuration key set.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.storage = self.storage.set(key, value);
        self
    }

    /// Starts a replica.
    pub fn serve(&self) -> Countersign {
        self.storage.serve(&[])
    }

    /// Adds a user with [`PASSWORD`], and returns the id.
    pub fn add_user(&self, name: &str, flags: &[&str]) -> String {
        add_user(&self.storage, name, flags)
    }
}

/// Settings of most tests: cheap hashes, callers without a token, and long time-outs, because a busy machine is no
/// fault.
pub fn for_tests(storage: Storage) -> Storage {
    storage
        .set("password.memory_kib", "1024")
        .set("password.iterations", "1")
        .set("throttle.enabled", "false")
        // A load logs the same user in again and again, which must not end older sessions.
        .set("tokens.max_sessions_per_user", "10000")
        .set("storage.redis_timeout", "3s")
        .set("storage.acquire_timeout", "5s")
        .set("storage.statement_timeout", "5s")
        .set("server.default_deadline", "15s")
        .set("server.max_deadline", "15s")
        .set("server.anonymous_scopes", ALL_SCOPES)
}

/// The configuration of replicas for faults under load: the default limits of time, and a grace longer than the outages of a busy
/// machine.
pub fn for_outages(database_url: &str, redis_url: &str) -> Storage {
    for_tests(Storage::clustered(database_url, redis_url, "cs"))
        .set("storage.redis_timeout", "300ms")
        .set("storage.acquire_timeout", "1s")
        .set("storage.statement_timeout", "3s")
        .set("server.default_deadline", "5s")
        .set("server.max_deadline", "10s")
        .set("tokens.refresh_grace", "5m")
}

/// Adds a user with [`PASSWORD`] by the command line, and returns the id. Creates the store if `serve` has not run yet.
pub fn add_user(storage: &Storage, name: &str, flags: &[&str]) -> String {
    storage.run(&["migrate"]).succeed();
    let words = [&["user", "add", name], flags].concat();
    let printed = storage.run(&words).input(format!("{PASSWORD}\n")).json();
    printed["user"]["userId"]
        .as_str()
        .expect("the new user has an id")
        .to_owned()
}
