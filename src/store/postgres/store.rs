//! The durable store of a cluster.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{ConnectOptions as _, Row as _};

use super::connect::{Limits, Way};
use super::error::Failure;
use super::migrate;
use super::pool::{How, Pool, PoolUsage};
use super::statement::Statement;
use crate::clock::UnixMillis;
use crate::model::{Error, Result};
use crate::secret::SecretText;
use crate::store::SchemaState;

/// Connections besides the pool's, for what keeps a replica in order: reconciliation, heartbeats, clean-up. Callers
/// who fill the pool must not make the revocations stale.
const UPKEEP: u32 = 2;

/// Tasks of ours that may wait for those; there are fewer.
const UPKEEP_WAITING: u32 = 64;

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://…`; may hold a password.
    pub url: SecretText,
    /// The most connections for callers; two more are for upkeep.
    pub pool: u32,
    /// The longest wait for a connection.
    pub acquire_timeout: Duration,
    /// The longest that one statement may take; transactions and waits for locks have limits made of it.
    pub statement_timeout: Duration,
}

/// People, clients, keys, revocations and the audit trail in PostgreSQL (14 or later). Cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    /// For callers.
    pub(super) db: Pool,
    /// For upkeep.
    pub(super) upkeep: Pool,
    way: Way,
    patience: Duration,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}

impl PostgresStore {
    /// Connects, and finds out whether a pooler stands between. `STORE_UNAVAILABLE` if that fails.
    ///
    /// The schema is left alone: see [`PostgresStore::migrate`].
    pub async fn connect(config: &PostgresConfig) -> Result<Self> {
        let limits = Limits::of(config.statement_timeout);
        let patience = config.acquire_timeout + config.statement_timeout;
        let way = Way::find(&config.url, limits, patience).await?;
        if !way.is_direct() {
            tracing::info!("a pooler stands before the database: every statement runs in a transaction of its own");
        }
        Ok(Self {
            // More waiting than the pool holds would only wait for longer than callers do.
            db: Pool::new(&way, limits, config.pool, config.pool, config.acquire_timeout),
            upkeep: Pool::new(&way, limits, UPKEEP, UPKEEP_WAITING, config.acquire_timeout),
            way,
            patience,
        })
    }

    /// How busy the pool for callers is, and the one for upkeep.
    #[must_use]
    pub fn usage(&self) -> [(&'static str, PoolUsage); 2] {
        [("callers", self.db.usage()), ("upkeep", self.upkeep.usage())]
    }

    /// Brings the schema up to date; how many steps were missing. Of several at once one does it and the others wait.
    /// A schema that is newer than this program is refused.
    pub async fn migrate(&self) -> Result<usize> {
        let (way, patience) = (self.way.clone(), self.patience);
        // Whoever started it may go away; a half-made schema is rolled back by the server, but better finished.
        let task = tokio::spawn(async move {
            let connect = tokio::time::timeout(patience, way.options().connect());
            let mut connection = connect.await.map_err(Error::store_unavailable)?.map_err(into_error)?;
            way.check(&mut connection).await.map_err(into_error)?;
            migrate::migrate(&mut connection).await.map_err(Failure::into_error)
        });
        task.await.map_err(Error::internal)?
    }

    /// How the schema stands, and what time it is there. Writes nothing.
    pub async fn look(&self) -> Result<(SchemaState, UnixMillis)> {
        let look = async {
            let mut connection = self.way.options().connect().await?;
            self.way.check(&mut connection).await?;
            let at = migrate::version(&mut connection).await?;
            let row = sqlx::raw_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(&mut connection)
                .await?;
            Ok::<_, Failure>((SchemaState::of(migrate::MIGRATIONS, at), UnixMillis(row.try_get(0)?)))
        };
        let looked = tokio::time::timeout(self.patience, look).await;
        looked.map_err(Error::store_unavailable)?.map_err(Failure::into_error)
    }

    /// What a statement reads that always answers one row.
    pub(super) async fn only<T: Send + 'static>(
        &self,
        statement: Statement,
        read: fn(&PgRow) -> super::error::Result<T>,
    ) -> Result<T> {
        let row = self.db.first(How::Repeatable, statement, read).await?;
        row.ok_or_else(|| Error::internal("unreadable row: meta is empty"))
    }
}

fn into_error(error: sqlx::Error) -> Error {
    Failure::from(error).into_error()
}
