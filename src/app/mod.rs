//! The composition root: the only module that names backends, and that passes each module its part of the configuration.

mod agent;
mod bind;
mod caller_auth;
pub mod doctor;
mod draft;
mod error;
mod gateway;
mod grpc;
mod health;
mod maintenance;
mod master_key;
mod metrics;
mod secret_files;
mod serve;
mod services;
mod stores;
mod supervisor;
mod tls;

pub use agent::agent;
pub use bind::Inherited;
pub use error::StartError;
pub use health::{HealthReport, HealthTarget, health};
pub use serve::{Addresses, ServeOptions, serve};
pub use services::{App, StartHashing};
pub use stores::{Access, MeasureUsage, Stores, UpdateGauges, Usage, open};
