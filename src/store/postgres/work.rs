//! A piece of work on one connection, and whether a failed attempt may have changed something.

use sqlx::postgres::PgConnection;

use super::error::{Failure, Result};
use super::statement::StatementConnection;
use crate::model::AuditEvent;
use crate::store::durable::{Statement, Transaction, Transition, WorkMode};

/// A piece of work, which is kept for a second attempt.
pub(super) struct Work<A, T> {
    pub(super) mode: WorkMode,
    pub(super) event: Option<AuditEvent>,
    pub(super) arguments: A,
    pub(super) transition: Transition<A, T>,
}

impl<A: Sync, T> Work<A, T> {
    /// Runs the transition; returns its result and whether it wrote the event.
    pub(super) async fn run(&self, connection: &mut PgConnection, named: bool) -> Result<(T, bool)> {
        const READ_ONLY: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        let mut driver = StatementConnection {
            connection,
            named,
            failure: None,
        };
        if self.mode == WorkMode::Snapshot {
            Box::pin(driver.execute(&Statement::postgres(READ_ONLY))).await?;
        }
        let mut transaction = Transaction::new(&mut driver, self.event.as_ref());
        let done = (self.transition)(&mut transaction, &self.arguments).await;
        let audited = transaction.audited();
        match done {
            Ok(done) => Ok((done, audited)),
            Err(error) => Err(driver.failure.unwrap_or(Failure::Rule(error))),
        }
    }
}

/// A failure, and whether the attempt certainly changed nothing.
pub(super) struct FailedAttempt {
    pub(super) failure: Failure,
    pub(super) undone: bool,
}

impl FailedAttempt {
    pub(super) fn before_commit(failure: impl Into<Failure>) -> Self {
        Self {
            failure: failure.into(),
            undone: true,
        }
    }

    pub(super) fn at_commit(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        Self {
            undone: failure.is_certainly_rolled_back(),
            failure,
        }
    }
}
