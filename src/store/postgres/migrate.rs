//! Brings the schema up to date, in one transaction that holds the row with its version.

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::error::Result;
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

/// The schema's version; 0 if there is none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<u32> {
    let row = sqlx::raw_sql("SELECT to_regclass('schema_version') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !row.try_get::<bool, _>(0)? {
        return Ok(0);
    }
    let row = sqlx::raw_sql("SELECT coalesce(max(version), 0) FROM schema_version")
        .fetch_one(connection)
        .await?;
    unsigned(row.try_get(0)?)
}

async fn apply(connection: &mut PgConnection) -> Result<usize> {
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
            .bind(i32::try_from(step.version).map_err(crate::model::Error::internal)?)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(missing.len())
}

fn unsigned(version: i32) -> Result<u32> {
    u32::try_from(version).map_err(|error| crate::model::Error::internal(error).into())
}
