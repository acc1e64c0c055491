//! `DurableStore`: people, clients, keys, revocations, the audit trail.

mod audit;
mod cancel;
mod clients;
mod feed;
pub(crate) mod fresh;
mod keys;
mod passwords;
mod revocations;
pub(crate) mod samples;
mod texts;
mod users;
