//! PostgreSQL as a backend of the shared transitions.

use async_trait::async_trait;

use super::PostgresStore;
use super::error;
use super::feed::{self, FeedPosition, FeedRow};
use super::revoke::revoking;
use super::statement::StatementConnection;
use super::timeline::{self, TimelineCheck};
use crate::model::{AuditEvent, Result, Revocation};
use crate::store::durable::revocations::{self, FeedReading};
use crate::store::durable::{
    Backend, Columns, Driver, EachRow, KnownClients, PoolKind, Read, Row, Statement, Transition, WorkMode, one_column,
};
use crate::store::{Changes, Cursor, NewRevocation};

impl Backend for PostgresStore {
    async fn execute<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        pool: PoolKind,
        mode: WorkMode,
        event: Option<&AuditEvent>,
        arguments: A,
        work: Transition<A, T>,
    ) -> Result<(T, bool)> {
        let pool = match pool {
            PoolKind::Callers => &self.db,
            PoolKind::Maintenance => &self.maintenance,
        };
        pool.execute(mode, event, arguments, work).await
    }

    fn known_clients(&self) -> &KnownClients {
        &self.known_clients
    }

    fn check_writable(&self) -> Result<()> {
        self.db.check_writable()
    }

    async fn feed_position(&self) -> Result<FeedReading> {
        let rows = self.read_feed(feed::position).await?;
        Ok(feed::put_together(rows)?.1)
    }

    async fn feed_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = FeedPosition::parse(cursor)?;
        let rows = self.read_feed(|check| feed::news(check, &seen)).await?;
        feed::changes(&seen, rows)
    }

    fn reconnect(&self) {
        for pool in [&self.db, &self.maintenance] {
            pool.reconnect();
        }
    }
}

impl PostgresStore {
    /// Runs a reading of the feed. If the server refuses it, the check of the timeline may ask too much: a right was taken
    /// from the role, or another server answers. Then the reading runs with the check that works.
    async fn read_feed(&self, reading: impl Fn(TimelineCheck) -> Statement + Send + Sync) -> Result<Vec<FeedRow>> {
        let check = self.timeline.get();
        let read = |check| self.query(PoolKind::Maintenance, reading(check), feed::read_row);
        match read(check).await {
            Err(error) if timeline::is_refusal(&error) => match self.timeline_check().await {
                Ok(report) if report.check != check => read(report.check).await,
                Ok(_) | Err(_) => Err(error),
            },
            done => done,
        }
    }
}

impl StatementConnection<'_> {
    fn keep<T>(&mut self, done: error::Result<T>) -> Result<T> {
        done.map_err(|failure| {
            let error = failure.to_error();
            self.failure = Some(failure);
            error
        })
    }

    async fn first<T: Send>(&mut self, statement: &Statement, read: Read<T>) -> Result<Option<T>> {
        let mut first = None;
        let mut each = |row: &dyn Row| {
            first = Some(read(&mut Columns::new(row))?);
            Ok(())
        };
        self.query(statement, &mut each).await?;
        Ok(first)
    }
}

#[async_trait]
impl Driver for StatementConnection<'_> {
    async fn run(&mut self, statement: &Statement) -> Result<u64> {
        match (self.execute(statement).await, statement.if_taken) {
            (Err(failure), Some(taken)) if failure.is_duplicate() => Err(taken.into()),
            (done, _) => self.keep(done),
        }
    }

    async fn query(&mut self, statement: &Statement, each: &mut EachRow<'_>) -> Result<()> {
        let done = self.each(statement, each).await;
        self.keep(done)
    }

    async fn run_audited(&mut self, statement: &Statement, _event: &AuditEvent) -> Result<bool> {
        // The statement's own arguments begin with the event.
        Ok(self.first(statement, one_column).await? == Some(true))
    }

    async fn record(&mut self, new: &NewRevocation, event: &AuditEvent) -> Result<Option<Revocation>> {
        self.first(&revoking(new, event)?, revocations::read).await
    }
}
