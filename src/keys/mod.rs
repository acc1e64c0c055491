//! Keys: verifying tokens, and (feature `server`) signing, sealing and rotating.
//!
//! [`verify::verify`] is the one function that decides whether an access token is genuine: `Validate`, the client
//! library and our own caller authentication all use it. It does no I/O and asks for no time: both are passed in.
//!
//! Signatures are AWS-LC's, by way of `aws-lc-rs`, over keys that are parsed once; everything around a signature
//! (RFC 7515 compact form, RFC 7517 key sets, RFC 7638 thumbprints, RFC 8725 and RFC 9068 rules) is here, because it is
//! what JWT libraries leave to their callers. `docs/jwt-rules.md` names the test of each rule.

pub mod cache;
pub mod jwk;
pub mod jws;
pub mod public;
pub mod verify;
pub mod verifying;

#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "server")]
pub mod import;
#[cfg(feature = "server")]
pub mod manager;
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
