//! `DurableStore`: users, clients, keys, revocations and the audit trail.

mod audit;
mod audit_log;
mod cancel;
mod clients;
mod feed;
pub(crate) mod fresh;
mod hostile_text;
mod import;
mod keys;
mod passwords;
mod revocations;
pub(crate) mod samples;
mod users;
mod write_back;
