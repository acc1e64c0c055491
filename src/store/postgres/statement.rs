//! A connection that runs statements.

use futures_util::TryStreamExt as _;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgRow, PgTypeInfo};
use sqlx::{Arguments as _, Decode, Encode, Postgres, Row as _, Type, ValueRef as _};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::error::{Failure, Result};
use crate::model;
use crate::spans::SPANS;
use crate::store::durable::{EachRow, Row, Statement, Value};

/// A connection, inside a transaction or free to run one statement. A transition sees plain errors; the pool, which judges
/// by what the database said whether to try again, finds the database's error in `failure`.
pub(super) struct StatementConnection<'c> {
    pub(super) connection: &'c mut PgConnection,
    /// Whether statements are prepared once and kept by name, which a pooler does not allow.
    pub(super) named: bool,
    pub(super) failure: Option<Failure>,
}

impl StatementConnection<'_> {
    /// Runs a statement and returns how many rows it changed.
    pub(super) async fn execute(&mut self, statement: &Statement) -> Result<u64> {
        let query = self.prepare(statement)?.execute(&mut *self.connection);
        Ok(query.instrument(span(statement)).await?.rows_affected())
    }

    /// Hands each row to `each` as it arrives, so that a load of all revocations is not in memory twice.
    pub(super) async fn each(&mut self, statement: &Statement, each: &mut EachRow<'_>) -> Result<()> {
        let mut rows = self.prepare(statement)?.fetch(&mut *self.connection);
        let read = async {
            while let Some(row) = rows.try_next().await? {
                each(&row)?;
            }
            Ok(())
        };
        read.instrument(span(statement)).await
    }

    fn prepare(&self, statement: &Statement) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        statement.check_storable()?;
        let mut arguments = PgArguments::default();
        for value in &statement.arguments {
            let added = match value {
                Value::Boolean(value) => arguments.add(value),
                Value::Integer(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
                Value::Uuid(value) => arguments.add(value),
                Value::Json(value) => arguments.add(JsonText(value)),
                Value::List(value) => arguments.add(value),
            };
            added.map_err(model::Error::internal)?;
        }
        let persistent = self.named && !statement.planned_afresh;
        Ok(sqlx::query_with(statement.postgres, arguments).persistent(persistent))
    }
}

/// The span of a statement. It holds the text, which has no values in it: those are arguments.
fn span(statement: &Statement) -> Span {
    tracing::info_span!(target: SPANS, "statement", otel.kind = "client",
        db.system.name = "postgresql", db.query.text = statement.postgres)
}

/// An argument of the type `json`, which keeps the text as it is given. That of sqlx is `jsonb`, which sorts members.
struct JsonText<'t>(&'t str);

impl Type<Postgres> for JsonText<'_> {
    fn type_info() -> PgTypeInfo {
        // The number of the type on every server. By its name, sqlx would ask the server for the number.
        const JSON: Oid = Oid(114);
        PgTypeInfo::with_oid(JSON)
    }
}

impl Encode<'_, Postgres> for JsonText<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Row for PgRow {
    fn is_null(&self, column: usize) -> model::Result<bool> {
        Ok(self.try_get_raw(column).map_err(Failure::from)?.is_null())
    }

    fn boolean(&self, column: usize) -> model::Result<Option<bool>> {
        get(self, column)
    }

    fn integer(&self, column: usize) -> model::Result<Option<i64>> {
        get(self, column)
    }

    fn text(&self, column: usize) -> model::Result<Option<&str>> {
        get(self, column)
    }

    fn bytes(&self, column: usize) -> model::Result<Option<&[u8]>> {
        get(self, column)
    }

    fn uuid(&self, column: usize) -> model::Result<Option<Uuid>> {
        get(self, column)
    }

    fn list(&self, column: usize) -> model::Result<Option<Vec<String>>> {
        get(self, column)
    }
}

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: usize) -> model::Result<Option<T>> {
    Ok(row.try_get(column).map_err(Failure::from)?)
}
