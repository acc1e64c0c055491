//! PostgreSQL as a backend of the shared transitions.

use std::sync::Arc;

use async_trait::async_trait;

use super::PostgresStore;
use super::error::{self, Failure};
use super::feed::{self, FeedPosition};
use super::pool::{Pool, RetryMode};
use super::revoke::revoking;
use super::statement::StatementConnection;
use crate::model::{AuditEvent, Result, Revocation};
use crate::store::durable::revocations::{self, FeedReading};
use crate::store::durable::{
    Backend, Driver, EachRow, EventRule, PoolKind, Read, Statement, Transaction, Transition, one_column,
};
use crate::store::{Changes, Cursor, NewRevocation};

impl PostgresStore {
    const fn pool(&self, kind: PoolKind) -> &Pool {
        match kind {
            PoolKind::Callers => &self.db,
            PoolKind::Maintenance => &self.maintenance,
        }
    }
}

impl Backend for PostgresStore {
    async fn query<T: Send + 'static>(&self, pool: PoolKind, statement: Statement, read: Read<T>) -> Result<Vec<T>> {
        self.pool(pool).all(RetryMode::Repeatable, statement, read).await
    }

    async fn run(&self, pool: PoolKind, statement: Statement) -> Result<u64> {
        self.pool(pool).run(RetryMode::Repeatable, statement).await
    }

    async fn run_audited(&self, statement: Statement, _event: &AuditEvent) -> Result<bool> {
        // The statement's own arguments begin with the event.
        let how = match statement.event_rule {
            EventRule::IfChanged => RetryMode::Once,
            EventRule::Always => RetryMode::Repeatable,
        };
        let changed = self.db.first(how, statement, one_column).await?;
        Ok(changed == Some(true))
    }

    async fn snapshot<T: Send + 'static>(&self, work: Transition<(), T>) -> Result<T> {
        const READ_ONLY: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        self.maintenance
            .with(RetryMode::Transaction, move |connection| {
                Box::pin(async move {
                    connection.run(&Statement::postgres(READ_ONLY)).await?;
                    let (done, _) = run_to_end(connection, None, &(), work).await?;
                    Ok(done)
                })
            })
            .await
    }

    async fn transaction<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        pool: PoolKind,
        event: Option<&AuditEvent>,
        arguments: A,
        work: Transition<A, T>,
    ) -> Result<(T, bool)> {
        let shared = Arc::new((event.cloned(), arguments));
        self.pool(pool)
            .with(RetryMode::Transaction, move |connection| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { run_to_end(connection, shared.0.as_ref(), &shared.1, work).await })
            })
            .await
    }

    async fn record(&self, new: &NewRevocation, event: &AuditEvent) -> Result<Option<Revocation>> {
        let statement = revoking(new, event)?;
        self.db.first(RetryMode::Once, statement, revocations::read).await
    }

    async fn feed_position(&self) -> Result<FeedReading> {
        let rows = self.query(PoolKind::Maintenance, feed::position(), feed::read_row);
        Ok(feed::put_together(rows.await?)?.1)
    }

    async fn feed_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = FeedPosition::parse(cursor)?;
        let rows = self.query(PoolKind::Maintenance, feed::news(&seen), feed::read_row);
        feed::changes(&seen, rows.await?)
    }
}

async fn run_to_end<A, T>(
    connection: &mut StatementConnection<'_>,
    event: Option<&AuditEvent>,
    arguments: &A,
    work: Transition<A, T>,
) -> error::Result<(T, bool)> {
    let mut driver = TransactionDriver {
        connection,
        failure: None,
    };
    let mut transaction = Transaction::new(&mut driver, event);
    let done = work(&mut transaction, arguments).await;
    let audited = transaction.audited();
    match done {
        Ok(done) => Ok((done, audited)),
        Err(error) => Err(driver.failure.unwrap_or(Failure::Rule(error))),
    }
}

/// A connection inside a transaction. A transition sees plain errors; the pool, which judges by what the database said
/// whether to try again, finds the database's error in `failure`.
struct TransactionDriver<'s, 'c> {
    connection: &'s mut StatementConnection<'c>,
    failure: Option<Failure>,
}

impl TransactionDriver<'_, '_> {
    fn keep<T>(&mut self, done: error::Result<T>) -> Result<T> {
        done.map_err(|failure| {
            let error = failure.to_error();
            self.failure = Some(failure);
            error
        })
    }
}

#[async_trait]
impl Driver for TransactionDriver<'_, '_> {
    async fn run(&mut self, statement: Statement) -> Result<u64> {
        match (self.connection.run(&statement).await, statement.if_taken) {
            (Err(failure), Some(taken)) if failure.is_duplicate() => Err(taken.into()),
            (done, _) => self.keep(done),
        }
    }

    async fn query(&mut self, statement: Statement, each: &mut EachRow<'_>) -> Result<()> {
        let done = self.connection.each(&statement, &mut |row| each(row)).await;
        self.keep(done)
    }

    async fn record(&mut self, new: &NewRevocation, event: &AuditEvent) -> Result<Option<Revocation>> {
        let statement = revoking(new, event)?;
        let recorded = self.connection.all(&statement, revocations::read).await;
        Ok(self.keep(recorded)?.into_iter().next())
    }
}
