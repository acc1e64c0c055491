//! PostgreSQL as a backend of the shared transitions.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo};
use sqlx::{Decode, Encode, Postgres, Row as _, Type, ValueRef as _};
use uuid::Uuid;

use super::PostgresStore;
use super::error::{self, Failure};
use super::pool::{Pool, RetryMode};
use super::revoke::{read_revocation, revoking};
use super::statement::{Session, Statement, sql};
use crate::model::{AuditEvent, Error, Result, Revocation, Target};
use crate::store::durable::{
    self, Backend, Columns, Driver, EachRow, EventRule, PoolKind, Read, Row, Transaction, Transition, Value,
};
use crate::store::revocations::Expiry;

impl PostgresStore {
    const fn pool(&self, kind: PoolKind) -> &Pool {
        match kind {
            PoolKind::Callers => &self.db,
            PoolKind::Upkeep => &self.upkeep,
        }
    }
}

impl Backend for PostgresStore {
    async fn query<T: Send + 'static>(
        &self,
        pool: PoolKind,
        statement: durable::Statement,
        read: Read<T>,
    ) -> Result<Vec<T>> {
        let read = move |row: &PgRow| Ok(read(&mut Columns::new(row))?);
        self.pool(pool).all(RetryMode::Repeatable, statement.into(), read).await
    }

    async fn run(&self, pool: PoolKind, statement: durable::Statement) -> Result<u64> {
        self.pool(pool).run(RetryMode::Repeatable, statement.into()).await
    }

    async fn run_audited(&self, statement: durable::Statement, _event: &AuditEvent) -> Result<bool> {
        // The statement's own arguments begin with the event.
        let how = match statement.event_rule {
            EventRule::IfChanged => RetryMode::Once,
            EventRule::Always => RetryMode::Repeatable,
        };
        let changed = self.db.first(how, statement.into(), |row| Ok(row.try_get(0)?)).await?;
        Ok(changed == Some(true))
    }

    async fn snapshot<T: Send + 'static>(&self, work: impl Transition<T>) -> Result<T> {
        const READ_ONLY: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        let work = Arc::new(work);
        self.upkeep
            .with(RetryMode::Transaction, move |session| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    session.run(sql(READ_ONLY)).await?;
                    let (done, _) = run_to_end(session, None, &*work).await?;
                    Ok(done)
                })
            })
            .await
    }

    async fn transaction<T: Send + 'static>(
        &self,
        pool: PoolKind,
        event: Option<&AuditEvent>,
        work: impl Transition<T>,
    ) -> Result<(T, bool)> {
        let shared = Arc::new((event.cloned(), work));
        self.pool(pool)
            .with(RetryMode::Transaction, move |session| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { run_to_end(session, shared.0.as_ref(), &shared.1).await })
            })
            .await
    }
}

async fn run_to_end<T>(
    session: &mut Session<'_>,
    event: Option<&AuditEvent>,
    work: &impl Transition<T>,
) -> error::Result<(T, bool)> {
    let mut driver = SessionDriver { session, failure: None };
    let mut transaction = Transaction::new(&mut driver, event);
    let done = work(&mut transaction).await;
    let audited = transaction.audited();
    match done {
        Ok(done) => Ok((done, audited)),
        Err(error) => Err(driver.failure.unwrap_or(Failure::Rule(error))),
    }
}

/// A session inside a transaction. A transition sees plain errors; the pool, which judges by what the database said
/// whether to try again, finds the database's error in `failure`.
struct SessionDriver<'s, 'c> {
    session: &'s mut Session<'c>,
    failure: Option<Failure>,
}

impl SessionDriver<'_, '_> {
    fn keep<T>(&mut self, done: error::Result<T>) -> Result<T> {
        done.map_err(|failure| {
            let error = failure.to_error();
            self.failure = Some(failure);
            error
        })
    }
}

#[async_trait]
impl Driver for SessionDriver<'_, '_> {
    async fn run(&mut self, statement: durable::Statement) -> Result<u64> {
        let taken = statement.if_taken;
        match (self.session.run(statement.into()).await, taken) {
            (Err(failure), Some(taken)) if failure.is_duplicate() => Err(taken.into()),
            (done, _) => self.keep(done),
        }
    }

    async fn query(&mut self, statement: durable::Statement, each: &mut EachRow<'_>) -> Result<()> {
        let done = self.session.all(statement.into(), |row| Ok(each(row)?)).await;
        self.keep(done).map(drop)
    }

    async fn revoke(&mut self, target: &Target, event: &AuditEvent) -> Result<Revocation> {
        let statement = revoking(target, Expiry::LongestSession, event)?;
        let recorded = self.session.first(statement, read_revocation).await;
        self.keep(recorded)?
            .ok_or_else(|| Error::internal("the row to revoke has gone"))
    }
}

impl From<durable::Statement> for Statement {
    fn from(shared: durable::Statement) -> Self {
        let statement = sql(shared.postgres);
        let statement = if shared.planned_afresh {
            statement.planned_afresh()
        } else {
            statement
        };
        shared
            .arguments
            .into_iter()
            .fold(statement, |statement, value| match value {
                Value::Boolean(value) => statement.bind(value),
                Value::Integer(value) => statement.bind(value),
                Value::Text(value) => statement.bind(value),
                Value::Bytes(value) => statement.bind(value),
                Value::Uuid(value) => statement.bind(value),
                Value::Json(value) => statement.bind(JsonText(value)),
                Value::List(value) => statement.bind(value),
            })
    }
}

/// An argument of the type `json`, whose text is kept as it is given. The one of sqlx is `jsonb`, which sorts members.
struct JsonText(String);

impl Type<Postgres> for JsonText {
    fn type_info() -> PgTypeInfo {
        // The number of the type in every server; by its name, sqlx would ask each server for it.
        const JSON: Oid = Oid(114);
        PgTypeInfo::with_oid(JSON)
    }
}

impl Encode<'_, Postgres> for JsonText {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Row for PgRow {
    fn is_null(&self, column: usize) -> Result<bool> {
        Ok(self.try_get_raw(column).map_err(Failure::Database)?.is_null())
    }

    fn boolean(&self, column: usize) -> Result<Option<bool>> {
        get(self, column)
    }

    fn integer(&self, column: usize) -> Result<Option<i64>> {
        get(self, column)
    }

    fn text(&self, column: usize) -> Result<Option<&str>> {
        get(self, column)
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>> {
        get(self, column)
    }

    fn uuid(&self, column: usize) -> Result<Option<Uuid>> {
        get(self, column)
    }

    fn list(&self, column: usize) -> Result<Option<Vec<String>>> {
        get(self, column)
    }
}

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: usize) -> Result<Option<T>> {
    Ok(row.try_get(column).map_err(Failure::Database)?)
}
