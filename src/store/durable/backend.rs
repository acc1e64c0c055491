//! What a database offers to the transitions that are written once for all of them.

use super::audit;
use super::columns::{Read, unreadable};
use super::refresh_view::KnownClients;
use super::revocations::FeedReading;
use super::statement::{EventRule, Statement};
use super::transaction::Transition;
use crate::model::{AuditEvent, Result, Revocation};
use crate::store::{Changes, Cursor, NewRevocation};

/// The connections that a piece of work uses. SQLite makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    /// Those for callers.
    Callers,
    /// Those for heartbeats, clean-up and the like, which callers cannot use up.
    Maintenance,
}

/// How a piece of work runs, and when PostgreSQL runs it a second time, on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkMode {
    /// One statement that only reads. A second time if the connection broke.
    Read,
    /// One statement whose second run changes nothing. A second time if the connection broke.
    Repeatable,
    /// One statement. A second time only if the first certainly did not take effect.
    Once,
    /// A transaction that only reads. All that it reads is of one moment.
    Snapshot,
    /// A transaction. A second time if the connection broke before the commit, or the commit certainly failed.
    Transaction,
}

/// A database with users, clients, keys, revocations and the audit trail. Each of these stores is implemented for every
/// `Backend`.
pub(crate) trait Backend: Send + Sync {
    /// Runs `work` to its end, even if the caller goes away; returns its result and whether it wrote the event.
    fn execute<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        pool: PoolKind,
        mode: WorkMode,
        event: Option<&AuditEvent>,
        arguments: A,
        work: Transition<A, T>,
    ) -> impl Future<Output = Result<(T, bool)>> + Send;

    /// The clients that refreshes have read.
    fn known_clients(&self) -> &KnownClients;

    /// `STORE_UNAVAILABLE` if the database is known to take no writes.
    fn check_writable(&self) -> Result<()> {
        Ok(())
    }

    /// The position of the feed now, without rows.
    fn feed_position(&self) -> impl Future<Output = Result<FeedReading>> + Send;

    /// The revocations after `cursor`.
    fn feed_since(&self, cursor: &Cursor) -> impl Future<Output = Result<Changes>> + Send;

    /// Opens new connections from now on.
    fn reconnect(&self) {}

    /// Like [`Backend::execute`]. The log is told of the event after the commit.
    fn perform<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        pool: PoolKind,
        mode: WorkMode,
        event: Option<&AuditEvent>,
        arguments: A,
        work: Transition<A, T>,
    ) -> impl Future<Output = Result<T>> + Send {
        async move {
            let (done, audited) = self.execute(pool, mode, event, arguments, work).await?;
            if let Some(event) = event.filter(|_| audited) {
                audit::log(event);
            }
            Ok(done)
        }
    }

    /// Runs a transition for a caller, with its audit event.
    fn transition<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        event: &AuditEvent,
        arguments: A,
        work: Transition<A, T>,
    ) -> impl Future<Output = Result<T>> + Send {
        self.perform(PoolKind::Callers, WorkMode::Transaction, Some(event), arguments, work)
    }

    /// The rows of one statement that only reads.
    fn query<T: Send + 'static>(
        &self,
        pool: PoolKind,
        statement: Statement,
        read: Read<T>,
    ) -> impl Future<Output = Result<Vec<T>>> + Send {
        self.perform(
            pool,
            WorkMode::Read,
            None,
            (statement, read),
            |tx, (statement, read)| Box::pin(tx.all(statement, *read)),
        )
    }

    /// The first row of one statement that only reads, if there is one.
    fn first<T: Send + 'static>(
        &self,
        statement: Statement,
        read: Read<T>,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        async move {
            let rows = self.query(PoolKind::Callers, statement, read).await?;
            Ok(rows.into_iter().next())
        }
    }

    /// The row of one statement that reads the table `meta`, which has one row.
    fn only<T: Send + 'static>(&self, statement: Statement, read: Read<T>) -> impl Future<Output = Result<T>> + Send {
        async move {
            let row = self.first(statement, read).await?;
            row.ok_or_else(|| unreadable("meta is empty"))
        }
    }

    /// Runs one statement and returns how many rows it changed. The statement may be sent twice.
    fn run(&self, pool: PoolKind, statement: Statement) -> impl Future<Output = Result<u64>> + Send {
        self.perform(pool, WorkMode::Repeatable, None, statement, |tx, statement| {
            Box::pin(tx.run(statement))
        })
    }

    /// Runs one statement and appends the event by its rule; returns whether the statement changed a row.
    fn run_audited(&self, statement: Statement, event: &AuditEvent) -> impl Future<Output = Result<bool>> + Send {
        let mode = match statement.event_rule {
            EventRule::IfChanged => WorkMode::Once,
            EventRule::Always => WorkMode::Repeatable,
        };
        self.perform(PoolKind::Callers, mode, Some(event), statement, |tx, statement| {
            Box::pin(tx.run_audited(statement))
        })
    }

    /// Records a revocation with its event, and returns its row. `None`, and no event, if the user or client does not
    /// exist, or if the token, session or key was revoked before.
    fn record(
        &self,
        new: &NewRevocation,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<Option<Revocation>>> + Send {
        self.perform(
            PoolKind::Callers,
            WorkMode::Once,
            Some(event),
            new.clone(),
            |tx, new| Box::pin(tx.record(new)),
        )
    }
}
