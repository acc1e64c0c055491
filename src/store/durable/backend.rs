//! What a database offers to the transitions that are written once for all of them.

use super::audit;
use super::columns::{Read, unreadable};
use super::statement::Statement;
use super::transaction::Transition;
use crate::model::{AuditEvent, Result};
use crate::store::change::storable_event;

/// The connections that a piece of work uses. SQLite makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    /// Those for callers.
    Callers,
    /// Those for heartbeats, clean-up and the like, which callers cannot use up.
    Maintenance,
}

/// A database with users, clients, keys and the audit trail. Each of these stores is implemented for every `Backend`.
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
    fn snapshot<T: Send + 'static>(&self, work: impl Transition<T>) -> impl Future<Output = Result<T>> + Send;

    /// Runs a transition to its end, even if the caller goes away; returns its result and whether it wrote the event.
    fn transaction<T: Send + 'static>(
        &self,
        pool: PoolKind,
        event: Option<&AuditEvent>,
        work: impl Transition<T>,
    ) -> impl Future<Output = Result<(T, bool)>> + Send;

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
    fn transition<T: Send + 'static>(
        &self,
        event: &AuditEvent,
        work: impl Transition<T>,
    ) -> impl Future<Output = Result<T>> + Send {
        async move {
            storable_event(event)?;
            let (done, audited) = self.transaction(PoolKind::Callers, Some(event), work).await?;
            if audited {
                audit::log(event);
            }
            Ok(done)
        }
    }
}
