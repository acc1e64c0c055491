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
    unencodable: Option<String>,
    afresh: bool,
}

/// A statement without arguments so far.
pub(super) fn sql(sql: &'static str) -> Statement {
    Statement {
        sql,
        arguments: PgArguments::default(),
        unencodable: None,
        afresh: false,
    }
}

impl Statement {
    /// Has it planned for its very arguments each time: how best to list depends on what is asked for.
    pub(super) fn planned_afresh(mut self) -> Self {
        self.afresh = true;
        self
    }

    /// Adds an argument: `$1`, then `$2`, and so on.
    pub(super) fn bind<'v, T: Encode<'v, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Err(error) = self.arguments.add(value) {
            self.unencodable = Some(error.to_string());
        }
        self
    }
}

/// A connection, inside a transaction or about to run one statement.
pub(super) struct Session<'c> {
    pub(super) connection: &'c mut PgConnection,
    /// Whether statements are prepared once and kept by name; not where a pooler stands between.
    pub(super) named: bool,
}

impl Session<'_> {
    /// Runs a statement; how many rows it changed.
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
            // Read as they come: a load of all revocations is never held twice.
            while let Some(row) = rows.try_next().await? {
                all.push(read(&row)?);
            }
            Ok(all)
        };
        read.instrument(span).await
    }

    fn query(&self, statement: Statement) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        if let Some(why) = statement.unencodable {
            return Err(crate::model::Error::internal(why).into());
        }
        Ok(sqlx::query_with(statement.sql, statement.arguments).persistent(self.named && !statement.afresh))
    }
}

/// What a statement is to a trace: its text, which holds no values. Those are arguments.
fn span(statement: &Statement) -> Span {
    tracing::info_span!(target: SPANS, "statement", otel.kind = "client",
        db.system.name = "postgresql", db.query.text = statement.sql)
}
