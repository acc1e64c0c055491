//! The composition root: the only place that names backends, and that turns the configuration into what each room needs.

mod error;
mod gatekeeper;
mod parts;
mod serve;
mod settings;
mod stores;
mod upkeep;

pub use error::StartError;
pub use parts::App;
pub use serve::{Addresses, ServeOptions, serve};
pub use stores::{Access, Stores, open};
