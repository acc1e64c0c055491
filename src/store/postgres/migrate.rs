//! Brings the schema up to date, in one transaction that holds the row with its version.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::error::Result;
use crate::model::{Error, ErrorKind};
use crate::store::migrate::{self, Migration};

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: include_str!("../../../migrations/postgres/0001_durable.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("../../../migrations/postgres/0002_master_keys_of_replicas.sql"),
    },
    Migration {
        version: 3,
        sql: include_str!("../../../migrations/postgres/0003_redis_nodes.sql"),
    },
    Migration {
        version: 4,
        sql: include_str!("../../../migrations/postgres/0004_clients_and_keys.sql"),
    },
    Migration {
        version: 5,
        sql: include_str!("../../../migrations/postgres/0005_redis_node_ids.sql"),
    },
];

/// Applies the missing steps and returns how many there were. Without a missing step nothing is written, so that a
/// `serve` whose database role may not change the schema starts on one that is up to date.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<usize> {
    let missing = migrate::pending(MIGRATIONS, version(connection).await?)?.len();
    if missing == 0 {
        return Ok(0);
    }
    match apply(connection).await {
        // Another replica has just created the table of the version. The second attempt waits for its row.
        Err(failure) if failure.is_duplicate() => apply(connection).await,
        done => done,
    }
}

/// The schema's version; 0 if there is none. A table of another program with the name of ours is refused.
pub(super) async fn version(connection: &mut PgConnection) -> Result<u32> {
    let found = sqlx::raw_sql(
        "SELECT relnamespace::regnamespace::text, current_database()::text,
                (SELECT count(*) = 2 FROM pg_attribute
                 WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
                   AND (attname, atttypid::regtype::text) IN (('one', 'boolean'), ('version', 'integer')))
         FROM pg_class WHERE oid = to_regclass('schema_version')",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = found else {
        return Ok(0);
    };
    if !row.try_get::<bool, _>(2)? {
        return Err(Error::new(ErrorKind::Internal, foreign("schema_version", &row)?).into());
    }
    let row = sqlx::raw_sql("SELECT coalesce(max(version), 0) FROM schema_version")
        .fetch_one(connection)
        .await?;
    unsigned(row.try_get(0)?)
}

/// Why the schema cannot be created in this database, with the cure; none if it can be.
pub(super) async fn obstacle(connection: &mut PgConnection) -> Result<Option<String>> {
    let row = sqlx::raw_sql(
        "SELECT current_schema()::text, datname::text, pg_encoding_to_char(encoding)::text, current_user::text,
                has_schema_privilege(current_schema(), 'CREATE')
         FROM pg_database WHERE datname = current_database()",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (database, encoding, role): (String, String, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let Some(schema) = row.try_get::<Option<String>, _>(0)? else {
        return Ok(Some(format!(
            "no schema of the search_path of role {role} exists in database {database}: create one, or correct search_path"
        )));
    };
    if encoding != "UTF8" {
        return Ok(Some(format!(
            "database {database} has the encoding {encoding}, which cannot store every name: create it with UTF8 (CREATE \
             DATABASE {database} ENCODING 'UTF8' TEMPLATE template0)"
        )));
    }
    if !row.try_get::<Option<bool>, _>(4)?.unwrap_or_default() {
        return Ok(Some(format!(
            "role {role} may not create tables in schema {schema} of database {database}: GRANT USAGE, CREATE ON SCHEMA \
             {schema} TO {role}, or run `countersign migrate` once with a role that may"
        )));
    }
    // The names are compiled in.
    let names: Vec<String> = tables().map(|name| format!("'{name}'")).collect();
    let taken = sqlx::raw_sql(AssertSqlSafe(format!(
        "SELECT relnamespace::regnamespace::text, current_database()::text, relname::text FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relname IN ({}) ORDER BY relname LIMIT 1",
        names.join(", ")
    )))
    .fetch_optional(connection)
    .await?;
    taken
        .map(|row| foreign(&row.try_get::<String, _>(2)?, &row))
        .transpose()
}

/// The tables that the migrations create.
fn tables() -> impl Iterator<Item = &'static str> {
    let lines = MIGRATIONS.iter().flat_map(|step| step.sql.lines());
    lines.filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split([' ', '(']).next())
}

/// The message about a table of another program. The first columns of `row` are its schema and its database.
fn foreign(table: &str, row: &PgRow) -> Result<String> {
    let (schema, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!(
        "table {table} in schema {schema} of database {database} is not Countersign's: give Countersign a database of its own, \
         or a schema of its own (CREATE SCHEMA countersign, and ALTER ROLE … SET search_path = countersign)"
    ))
}

async fn apply(connection: &mut PgConnection) -> Result<usize> {
    if version(connection).await? == 0
        && let Some(obstacle) = obstacle(connection).await?
        // Another replica may have created the schema meanwhile.
        && version(connection).await? == 0
    {
        return Err(Error::new(ErrorKind::Internal, obstacle).into());
    }

    // Without time limits: a large table may take long, and so may a replica that holds the lock.
    let limits = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
                  SET LOCAL idle_in_transaction_session_timeout = 0";
    let mut transaction = connection.begin_with(limits).await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS schema_version (
             one     boolean PRIMARY KEY DEFAULT true CHECK (one),
             version integer NOT NULL
         );
         COMMENT ON TABLE schema_version IS 'Which migrations have been applied; locked while more are';
         COMMENT ON COLUMN schema_version.one IS 'There is one row';
         COMMENT ON COLUMN schema_version.version IS 'The number of the last one';
         INSERT INTO schema_version (version) VALUES (0) ON CONFLICT DO NOTHING",
    )
    .execute(&mut *transaction)
    .await?;
    let row = sqlx::raw_sql("SELECT version FROM schema_version FOR UPDATE")
        .fetch_one(&mut *transaction)
        .await?;
    let missing = migrate::pending(MIGRATIONS, unsigned(row.try_get(0)?)?)?;
    for step in missing {
        sqlx::raw_sql(step.sql).execute(&mut *transaction).await?;
        sqlx::query("UPDATE schema_version SET version = $1")
            .bind(i32::try_from(step.version).map_err(Error::internal)?)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(missing.len())
}

fn unsigned(version: i32) -> Result<u32> {
    u32::try_from(version).map_err(|error| Error::internal(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_migrations_are_found_in_their_text() {
        let tables: Vec<&str> = tables().collect();
        for table in [
            "meta",
            "users",
            "clients",
            "signing_keys",
            "revocations",
            "audit_events",
        ] {
            assert!(tables.contains(&table), "{table} is not in {tables:?}");
        }
        assert!(
            tables
                .iter()
                .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
    }
}
