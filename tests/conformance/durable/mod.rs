//! `DurableStore`: people, clients, keys, revocations, the audit trail.

mod audit;
mod cancel;
mod clients;
mod feed;
mod fresh;
mod keys;
mod passwords;
mod revocations;
mod samples;
mod texts;
mod users;
