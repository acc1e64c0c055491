//! The composition root: the only place that names backends, and that turns the configuration into what each room needs.

mod agent;
mod bind;
mod caller_auth;
pub mod doctor;
mod error;
mod maintenance;
mod metrics;
mod parts;
mod serve;
mod settings;
mod stores;
mod supervisor;
mod tls;

pub use agent::agent;
pub use bind::Inherited;
pub use error::StartError;
pub use parts::App;
pub use serve::{Addresses, ServeOptions, serve};
pub use stores::{Access, Meter, Stores, open};
