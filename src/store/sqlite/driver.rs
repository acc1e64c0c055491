//! SQLite as a backend of the shared transitions. A transition is one closure on the thread that writes, where no
//! statement ever waits: it runs to its end once it has begun, and it cannot be cancelled.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use rusqlite::Error::ToSqlConversionFailure;
use rusqlite::types::{ToSql, ToSqlOutput, Value as SqliteValue, ValueRef};
use rusqlite::{CachedStatement, Row as SqliteRow};
use uuid::Uuid;

use super::error::is_duplicate;
use super::feed::{self, FeedPosition};
use super::revoke::revoke;
use super::{Database, Tx};
use crate::model::{AuditEvent, Error, Result, Revocation};
use crate::store::durable::audit::append;
use crate::store::durable::revocations::FeedReading;
use crate::store::durable::{
    Backend, Driver, EachRow, EventRule, KnownClients, PoolKind, Row, Statement, Transaction, Transition, Value,
    WorkMode, unreadable,
};
use crate::store::{Changes, Cursor, NewRevocation};

impl Backend for Database {
    async fn execute<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        _: PoolKind,
        mode: WorkMode,
        event: Option<&AuditEvent>,
        arguments: A,
        work: Transition<A, T>,
    ) -> Result<(T, bool)> {
        let event = event.cloned();
        let run = move |tx: &mut Tx<'_>| -> Result<(T, bool)> {
            let mut transaction = Transaction::new(tx, event.as_ref());
            let done = work(&mut transaction, &arguments).now_or_never();
            let done = done.ok_or_else(|| Error::internal("a transition waited for something other than SQLite"))?;
            Ok((done?, transaction.audited()))
        };
        match mode {
            WorkMode::Read | WorkMode::Snapshot => self.read(run).await,
            WorkMode::Repeatable | WorkMode::Once | WorkMode::Transaction => self.call(run).await,
        }
    }

    fn known_clients(&self) -> &KnownClients {
        self.known_clients()
    }

    async fn feed_position(&self) -> Result<FeedReading> {
        // Before the read, because a revocation that is acknowledged after this moment may be missing.
        let as_of = self.clock().now();
        self.read(move |tx| feed::position(tx, as_of)).await
    }

    async fn feed_since(&self, cursor: &Cursor) -> Result<Changes> {
        let (seen, as_of) = (FeedPosition::parse(cursor)?, self.clock().now());
        self.read(move |tx| feed::since(tx, &seen, as_of)).await
    }
}

#[async_trait]
impl Driver for Tx<'_> {
    async fn run(&mut self, statement: &Statement) -> Result<u64> {
        self.execute(statement)
    }

    async fn query(&mut self, statement: &Statement, each: &mut EachRow<'_>) -> Result<()> {
        let mut bound = self.bound(statement)?;
        let mut rows = bound.raw_query();
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    }

    async fn run_audited(&mut self, statement: &Statement, event: &AuditEvent) -> Result<bool> {
        let changed = self.execute(statement)? > 0;
        if changed || statement.event_rule == EventRule::Always {
            self.execute(&append(event)?)?;
        }
        Ok(changed)
    }

    async fn record(&mut self, new: &NewRevocation, event: &AuditEvent) -> Result<Option<Revocation>> {
        revoke(self, new, &append(event)?)
    }
}

impl Tx<'_> {
    /// Runs a shared statement and returns how many rows it changed.
    pub(super) fn execute(&self, statement: &Statement) -> Result<u64> {
        match (self.bound(statement)?.raw_execute(), statement.if_taken) {
            (Ok(changed), _) => u64::try_from(changed).map_err(Error::internal),
            (Err(error), Some(taken)) if is_duplicate(&error) => Err(taken.into()),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The prepared statement with its arguments, which it uses by name (`$1`, `$now`) and in any order.
    fn bound(&self, statement: &Statement) -> Result<CachedStatement<'_>> {
        statement.check_storable()?;
        let mut prepared = self.prepare(statement.sqlite)?;
        for index in 1..=prepared.parameter_count() {
            let name = prepared.parameter_name(index).unwrap_or_default();
            let time = match name {
                "$now" => Some(self.now()),
                "$earliest_now" => Some(self.earliest_now()),
                _ => None,
            };
            if let Some(time) = time {
                prepared.raw_bind_parameter(index, time.0)?;
                continue;
            }
            let number: Option<usize> = name.strip_prefix('$').and_then(|number| number.parse().ok());
            let argument = number.and_then(|number| statement.arguments.get(number.checked_sub(1)?));
            let argument = argument.ok_or_else(|| Error::internal(format!("no argument for {name}")))?;
            prepared.raw_bind_parameter(index, argument)?;
        }
        Ok(prepared)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Boolean(value) => value.to_sql(),
            Self::Integer(value) => value.to_sql(),
            Self::Text(value) => value.to_sql(),
            Self::Bytes(value) => value.to_sql(),
            Self::Uuid(value) => Ok(ToSqlOutput::Owned(
                value.map_or(SqliteValue::Null, |id| SqliteValue::Text(id.to_string())),
            )),
            Self::Json(value) => value.to_sql(),
            Self::List(value) => {
                let json = serde_json::to_string(value);
                Ok(json.map_err(|error| ToSqlConversionFailure(error.into()))?.into())
            }
        }
    }
}

impl Row for SqliteRow<'_> {
    fn is_null(&self, column: usize) -> Result<bool> {
        Ok(self.get_ref(column)? == ValueRef::Null)
    }

    fn boolean(&self, column: usize) -> Result<Option<bool>> {
        Ok(self.get(column)?)
    }

    fn integer(&self, column: usize) -> Result<Option<i64>> {
        Ok(self.get(column)?)
    }

    fn text(&self, column: usize) -> Result<Option<&str>> {
        self.get_ref(column)?.as_str_or_null().map_err(unreadable)
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>> {
        self.get_ref(column)?.as_bytes_or_null().map_err(unreadable)
    }

    fn uuid(&self, column: usize) -> Result<Option<Uuid>> {
        self.text(column)?.map(str::parse).transpose().map_err(unreadable)
    }

    fn list(&self, column: usize) -> Result<Option<Vec<String>>> {
        let text = self.text(column)?;
        text.map(serde_json::from_str).transpose().map_err(unreadable)
    }
}
