//! The rules of the durable store, written once for PostgreSQL and SQLite: users, passwords, clients, keys and the
//! audit trail.
//!
//! A transition is an async function on a [`Transaction`]. PostgreSQL awaits it in a task of its own. SQLite runs it to
//! its end on the thread that writes, where no statement ever waits. A backend implements [`Backend`] and [`Driver`],
//! and keeps what really differs: connections, the feed of revocations and how a revocation is recorded.

pub(super) mod audit;
mod backend;
mod clients;
mod columns;
mod keys;
mod logins;
mod refresh_view;
pub(super) mod revocations;
pub(super) mod statement;
mod transaction;
mod users;
mod write_back;

pub(super) use backend::{Backend, PoolKind, WorkMode};
pub(super) use columns::{Columns, Read, Row, one_column, unreadable};
pub(super) use refresh_view::KnownClients;
pub(super) use statement::{EventRule, Statement, Value};
pub(super) use transaction::{Driver, EachRow, Transaction, Transition};
