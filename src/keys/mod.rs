//! Keys: verifying tokens, and (feature `server`) signing, sealing and rotating.
//!
//! [`verify::verify`] is the one function that decides whether an access token is genuine: `Validate`, the client
//! library and the authentication of callers use it. It does no I/O and reads no clock: keys and time are arguments.
//!
//! AWS-LC makes and checks the signatures, through `aws-lc-rs`, with keys that are parsed once. This module does what JWT
//! libraries leave to their callers: the compact form (RFC 7515), key sets (RFC 7517), thumbprints (RFC 7638) and the
//! rules of RFC 8725 and RFC 9068. `docs/jwt-rules.md` lists the rules with the tests of each.

pub mod jwk;
pub mod jws;
pub mod public;
pub mod verified;
pub mod verify;
pub mod verifying;

#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "server")]
pub mod import;
#[cfg(feature = "server")]
pub mod manager;
#[cfg(feature = "server")]
pub mod published;
#[cfg(feature = "server")]
pub mod refresh;
#[cfg(feature = "server")]
pub mod ring;
#[cfg(feature = "server")]
pub mod rows;
#[cfg(feature = "server")]
pub mod seal;
#[cfg(feature = "server")]
pub mod signing;

mod json;
mod low_s;
mod roca;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod vectors;
