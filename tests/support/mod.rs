//! What every test crate shares: real PostgreSQL, Redis and Countersign processes, and a network that misbehaves on
//! demand. A test crate takes it in with `#[path = "../support/mod.rs"] mod support;`.
//!
//! * `COUNTERSIGN_TEST_DATABASE_URL` and `COUNTERSIGN_TEST_REDIS_URL` name servers to use in place of our own. Tests
//!   that stop, freeze or fill a server always start one for themselves.
//! * Every process that a test starts is ended with the test, and with the test runner however that ends: see [`guard`].
//! * Nothing waits by hoping. [`eventually`] asks again until a deadline, then says what it was waiting for.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test crate uses its own part of what is public here"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

pub mod admin;
pub mod agent;
pub mod caller;
pub mod cli;
pub mod cluster;
pub mod collector;
pub mod database;
pub mod deployment;
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
pub mod raw;
pub mod redis;
pub mod secrets;
pub mod serve;
pub mod servers;
pub mod wait;
pub mod walltime;
pub mod web;

pub use admin::Admin;
pub use caller::{Caller, assert_refused};
pub use cli::{Cli, Finished};
pub use cluster::{RedisCluster, RedisSentinel};
pub use database::Database;
pub use deployment::{Deployment, PASSWORD, Shape};
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

/// The size of a test: a number from the environment, or the short one.
pub fn size<T: std::str::FromStr>(name: &str, short: T) -> T {
    let set = std::env::var_os(name).map(|text| text.to_str().and_then(|text| text.parse().ok()));
    set.map_or(short, |size| size.unwrap_or_else(|| panic!("{name} is no number")))
}
