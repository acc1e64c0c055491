//! The three shapes that Countersign is deployed in, each fresh for a test.

use super::serve::Storage;
use super::{Countersign, Database, KeySpace};

/// What a test's user logs in with.
pub const PASSWORD: &str = "correct horse battery staple";

/// Every scope that a caller may hold: the tests call without a token, on loopback, unless they test just that.
const EVERYTHING: &str = "countersign:issue,countersign:refresh,countersign:revoke,countersign:validate,\
     countersign:watch,countersign:users,countersign:clients,countersign:keys,countersign:audit";

/// Where the facts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One SQLite file, one process.
    Embedded,
    /// Postgres and one Redis.
    Clustered,
    /// Postgres and a Redis Cluster of three masters.
    RedisCluster,
}

/// Fresh stores, and how to run Countersign on them.
#[derive(Debug)]
pub struct Deployment {
    /// How to run it.
    pub storage: Storage,
    /// Its database; none if embedded.
    pub database: Option<Database>,
    /// Its keys in Redis; none if embedded.
    pub keys: Option<KeySpace>,
}

impl Deployment {
    /// Fresh stores.
    pub async fn fresh(shape: Shape) -> Self {
        let (database, keys) = match shape {
            Shape::Embedded => (None, None),
            Shape::Clustered => (Some(Database::fresh().await), Some(KeySpace::fresh())),
            Shape::RedisCluster => (Some(Database::fresh().await), Some(KeySpace::in_cluster())),
        };
        let storage = match (&database, &keys) {
            (Some(database), Some(keys)) => Storage::shared(database, keys),
            _ => Storage::embedded(),
        };
        Self {
            storage: for_tests(storage),
            database,
            keys,
        }
    }

    /// The same with this key of the configuration set.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.storage = self.storage.set(key, value);
        self
    }

    /// A replica.
    pub fn serve(&self) -> Countersign {
        self.storage.serve(&[])
    }

    /// A user with [`PASSWORD`]; its id.
    pub fn add_user(&self, name: &str, flags: &[&str]) -> String {
        add_user(&self.storage, name, flags)
    }
}

/// What most tests want: cheap hashes, callers that need no token, and patience, because a busy machine is no fault.
pub fn for_tests(storage: Storage) -> Storage {
    storage
        .set("password.memory_kib", "1024")
        .set("password.iterations", "1")
        .set("throttle.enabled", "false")
        // A load logs the same person in again and again: no session may go for that.
        .set("tokens.max_sessions_per_user", "10000")
        .set("storage.redis_timeout", "3s")
        .set("storage.acquire_timeout", "5s")
        .set("storage.statement_timeout", "5s")
        .set("server.default_deadline", "15s")
        .set("server.max_deadline", "15s")
        .set("server.anonymous_scopes", EVERYTHING)
}

/// Adds a user with [`PASSWORD`] on the store; its id.
pub fn add_user(storage: &Storage, name: &str, flags: &[&str]) -> String {
    let words = [&["user", "add", name], flags].concat();
    let printed = storage.run(&words).input(format!("{PASSWORD}\n")).json();
    printed["user"]["user_id"]
        .as_str()
        .expect("the new user has an id")
        .to_owned()
}
