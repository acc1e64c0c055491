//! Statements with their arguments, and a connection that runs them.

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{Arguments as _, Encode, Postgres, Type};
use tracing::{Instrument as _, Span};

use super::error::Result;
use crate::spans::SPANS;

/// A statement and its arguments: enough to send it a second time.
#[derive(Clone)]
pub(super) struct Statement {
    sql: &'static str,
    arguments: PgArguments,
    encoding_error: Option<String>,
    planned_afresh: bool,
}

/// A statement without arguments so far.
pub(super) fn sql(sql: &'static str) -> Statement {
    Statement {
        sql,
        arguments: PgArguments::default(),
        encoding_error: None,
        planned_afresh: false,
    }
}

impl Statement {
    /// Makes the server plan the statement each time: the best plan of a listing depends on its arguments.
    pub(super) fn planned_afresh(mut self) -> Self {
        self.planned_afresh = true;
        self
    }

    /// Adds an argument: `$1`, then `$2`, and so on.
    pub(super) fn bind<'v, T: Encode<'v, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Err(error) = self.arguments.add(value) {
            self.encoding_error = Some(error.to_string());
        }
        self
    }
}

/// A connection, inside a transaction or free to run one statement.
pub(super) struct Session<'c> {
    pub(super) connection: &'c mut PgConnection,
    /// Whether statements are prepared once and kept by name, which a pooler does not allow.
    pub(super) named: bool,
}

impl Session<'_> {
    /// Runs a statement and answers how many rows it changed.
    pub(super) async fn run(&mut self, statement: Statement) -> Result<u64> {
        let span = span(&statement);
        let done = self
            .query(statement)?
            .execute(&mut *self.connection)
            .instrument(span)
            .await?;
        Ok(done.rows_affected())
    }

    /// The first row, if there is one.
    pub(super) async fn first<T>(
        &mut self,
        statement: Statement,
        read: impl FnOnce(&PgRow) -> Result<T>,
    ) -> Result<Option<T>> {
        let span = span(&statement);
        let found = self.query(statement)?.fetch_optional(&mut *self.connection);
        let row = found.instrument(span).await?;
        row.as_ref().map(read).transpose()
    }

    /// All rows.
    pub(super) async fn all<T>(
        &mut self,
        statement: Statement,
        mut read: impl FnMut(&PgRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        let span = span(&statement);
        let mut rows = self.query(statement)?.fetch(&mut *self.connection);
        let read = async {
            let mut all = Vec::new();
            // Each row is read as it arrives, so that a load of all revocations is not in memory twice.
            while let Some(row) = rows.try_next().await? {
                all.push(read(&row)?);
            }
            Ok(all)
        };
        read.instrument(span).await
    }

    fn query(&self, statement: Statement) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        if let Some(error) = statement.encoding_error {
            return Err(crate::model::Error::internal(error).into());
        }
        let persistent = self.named && !statement.planned_afresh;
        Ok(sqlx::query_with(statement.sql, statement.arguments).persistent(persistent))
    }
}

/// The span of a statement. It holds the text, which has no values in it: those are arguments.
fn span(statement: &Statement) -> Span {
    tracing::info_span!(target: SPANS, "statement", otel.kind = "client",
        db.system.name = "postgresql", db.query.text = statement.sql)
}
