//! Shared by all test crates: real PostgreSQL, Redis and Countersign processes, and a network proxy that fails on
//! demand. A test crate includes it by `#[path = "../support/mod.rs"] mod support;`.
//!
//! * `COUNTERSIGN_TEST_DATABASE_URL` and `COUNTERSIGN_TEST_REDIS_URL` name servers to use in place of our own. Tests
//!   that stop, freeze or fill a server always start one for themselves.
//! * Every process that a test starts ends with the test, and with the test runner however that ends: see [`guard`].
//! * Tests wait for conditions, not for fixed times: [`eventually`] probes until a deadline, and its failure names the
//!   condition.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test crate uses only some of the public items"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

pub mod admin;
pub mod agent;
pub mod caller;
pub mod cli;
pub mod cluster;
pub mod collector;
pub mod database;
pub mod deployment;
pub mod errors;
pub mod fleet;
pub mod get;
pub mod guard;
pub mod history;
pub mod keys;
pub mod load;
pub mod pooler;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod redis;
pub mod redis_groups;
pub mod replicated;
pub mod replication;
pub mod secrets;
pub mod serve;
pub mod servers;
pub mod source;
pub mod wait;
pub mod walltime;
pub mod web;

pub use admin::Admin;
pub use caller::{Caller, assert_refused};
pub use cli::{Cli, Finished};
pub use cluster::{RedisCluster, RedisSentinel};
pub use database::Database;
pub use deployment::{Deployment, DeploymentKind, PASSWORD};
pub use fleet::Fleet;
pub use get::get;
pub use history::History;
pub use keys::Keys;
pub use load::Load;
pub use pooler::Pooler;
pub use postgres::Postgres;
pub use process::Process;
pub use proxy::Proxy;
pub use redis::{KeySpace, Redis};
pub use serve::{Countersign, Storage};
pub use servers::Servers;
pub use wait::{eventually, poll};
pub use walltime::WallTime;

/// The size of a test: a number from the environment, or the short default.
pub fn size<T: std::str::FromStr>(name: &str, short: T) -> T {
    let set = std::env::var_os(name).map(|text| text.to_str().and_then(|text| text.parse().ok()));
    set.map_or(short, |size| size.unwrap_or_else(|| panic!("{name} is not a number")))
}
