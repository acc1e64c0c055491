//! The composition root: the only place that names backends, and that turns the configuration into what each room needs.

mod agent;
mod bind;
pub mod doctor;
mod error;
mod gatekeeper;
mod gauges;
mod parts;
mod serve;
mod settings;
mod stores;
mod supervisor;
mod tls;
mod upkeep;

pub use agent::agent;
pub use bind::Inherited;
pub use error::StartError;
pub use parts::App;
pub use serve::{Addresses, ServeOptions, serve};
pub use stores::{Access, Meter, Stores, open};
