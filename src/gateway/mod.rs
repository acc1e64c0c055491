//! The edge: what a proxy asks about a request before it lets it through, and what it is told.
//!
//! [`cookie`] and [`origin`] are of use to any back end that keeps tokens in cookies. The rest, with the feature
//! `server`, is the rule behind Envoy's `Check` and behind `/authorize`: neither knows how the other is carried.

pub mod cookie;
pub mod origin;

#[cfg(feature = "server")]
mod check;
#[cfg(feature = "server")]
mod decision;
#[cfg(feature = "server")]
mod judge;
#[cfg(feature = "server")]
mod request;

#[cfg(feature = "server")]
pub use check::{Gateway, GatewayConfig, Renewer};
#[cfg(feature = "server")]
pub use decision::{Admitted, Decision, IDENTITY, Refusal};
#[cfg(feature = "server")]
pub use judge::{Judge, Renewal, Renews};
#[cfg(feature = "server")]
pub use request::{ProxiedRequest, Route};
