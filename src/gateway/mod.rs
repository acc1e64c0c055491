//! External authorization for proxies: the decision whether a request is admitted to the service behind the proxy.
//!
//! [`cookie`] and [`origin`] are useful to every back end that keeps tokens in cookies. The rest, with the feature
//! `server`, decides for Envoy's `Check` and for `/authorize` alike, and does not depend on either protocol.

pub mod cookie;
pub mod origin;

#[cfg(feature = "server")]
mod backend;
#[cfg(feature = "server")]
mod check;
#[cfg(feature = "server")]
mod credential;
#[cfg(feature = "server")]
mod decision;
#[cfg(feature = "server")]
mod identity;
#[cfg(feature = "server")]
mod login;
#[cfg(feature = "server")]
mod renewals;
#[cfg(feature = "server")]
mod request;
#[cfg(feature = "server")]
mod requirements;
#[cfg(feature = "server")]
mod verdicts;

#[cfg(feature = "server")]
pub use backend::{RenewSession, Renewal, ValidateToken};
#[cfg(feature = "server")]
pub use check::{Gateway, GatewayConfig, Renewer};
#[cfg(feature = "server")]
pub use decision::{Admitted, Decision, Refusal};
#[cfg(feature = "server")]
pub use identity::{AttributeHeader, IDENTITY, IdentityHeaders};
#[cfg(feature = "server")]
pub use request::{ProxiedRequest, Route, parse_address};
