//! The compiled binary from the outside, as callers, operators and attackers see it. Tests that are not about one
//! kind of store run on all three: embedded, Postgres and Redis, Postgres and a Redis Cluster.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod agent;
mod bad_input;
mod cli;
mod cli_files;
mod cli_token;
mod crash;
mod deploy;
mod dumps;
mod exchange;
mod first_client;
mod grpcurl;
mod import;
mod library;
mod matrix;
mod narrowing;
mod node_bcrypt;
mod race;
mod read_only_commands;
mod regressions;
mod revoked_during_login;
mod revoking;
mod sessions;
mod start;
mod steady_state;
mod wrong_store;
