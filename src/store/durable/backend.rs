//! What a database offers to the transitions that are written once for all of them.

use super::audit;
use super::columns::{Read, unreadable};
use super::revocations::FeedReading;
use super::statement::Statement;
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

/// A database with users, clients, keys, revocations and the audit trail. Each of these stores is implemented for every `Backend`.
pub(crate) trait Backend: Send + Sync {
    /// The rows of one statement that only reads.
    fn query<T: Send + 'static>(
        &self,
        pool: PoolKind,
        statement: Statement,
        read: Read<T>,
    ) -> impl Future<Output = Result<Vec<T>>> + Send;

    /// Runs one statement and returns how many rows it changed. The statement may be sent twice.
    fn run(&self, pool: PoolKind, statement: Statement) -> impl Future<Output = Result<u64>> + Send;

    /// Runs one statement and appends the event by its rule; returns whether the statement changed a row.
    fn run_audited(&self, statement: Statement, event: &AuditEvent) -> impl Future<Output = Result<bool>> + Send;

    /// Runs a transition that only reads. All that it reads is of one moment.
    fn snapshot<T: Send + 'static>(&self, work: Transition<(), T>) -> impl Future<Output = Result<T>> + Send;

    /// Runs a transition to its end, even if the caller goes away; returns its result and whether it wrote the event.
    fn transaction<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        pool: PoolKind,
        event: Option<&AuditEvent>,
        arguments: A,
        work: Transition<A, T>,
    ) -> impl Future<Output = Result<(T, bool)>> + Send;

    /// Records a revocation with its event, and returns its row. `None`, and no event, if the user or client does not
    /// exist, or if the token, session or key was revoked before.
    fn record(
        &self,
        new: &NewRevocation,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<Option<Revocation>>> + Send;

    /// The position of the feed now, without rows.
    fn feed_position(&self) -> impl Future<Output = Result<FeedReading>> + Send;

    /// The revocations after `cursor`.
    fn feed_since(&self, cursor: &Cursor) -> impl Future<Output = Result<Changes>> + Send;

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

    /// Runs a transition for a caller, with its audit event. The log is told of the event after the commit.
    fn transition<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        event: &AuditEvent,
        arguments: A,
        work: Transition<A, T>,
    ) -> impl Future<Output = Result<T>> + Send {
        async move {
            let (done, audited) = self
                .transaction(PoolKind::Callers, Some(event), arguments, work)
                .await?;
            if audited {
                audit::log(event);
            }
            Ok(done)
        }
    }
}
