//! Countersign: a standalone token service over gRPC.
//!
//! Imports run one way, roughly in this order: a module imports only modules of earlier groups, and not all of them.
//! The exact table is `MODULES` in `tests/layers.rs`, which checks it.
//!
//! ```text
//! secret, trust, sync, clock, spans ← model ← proto, config, shutdown ← telemetry, store ← keys, password, listener
//!     ← throttle, attempts, revocation ← validator ← token, account, client ← gateway ← grpc, http ← app ← cli ← main
//! ```
//!
//! * [`model`]: plain data; [`store`]: the traits and backends of the stores; [`keys`]: sealing, signing and verifying;
//!   [`validator`]: whether an access token is good, for the service, the agent and the client library.
//! * The feature `client` is the library for calling services; the feature `server` is the service and its command line.

#[cfg(feature = "server")]
pub mod account;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod attempts;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "client")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
pub mod keys;
#[cfg(feature = "server")]
pub mod listener;
pub mod model;
#[cfg(feature = "server")]
pub mod password;
#[cfg(any(feature = "client", feature = "server"))]
pub mod proto;
pub mod revocation;
pub mod secret;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod spans;
#[cfg(feature = "server")]
pub mod store;
mod sync;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod throttle;
#[cfg(feature = "server")]
pub mod token;
#[cfg(feature = "client")]
pub mod trust;
pub mod validator;
