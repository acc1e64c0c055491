//! The store: its configuration and its two pools.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Row as _};

use super::connect::{Endpoint, Limits};
use super::error::Failure;
use super::migrate;
use super::pool::{Pool, PoolUsage};
use crate::clock::UnixMillis;
use crate::model::{Error, Result};
use crate::secret::SecretText;
use crate::store::SchemaState;

/// Connections for reconciliation, heartbeats and clean-up. They are apart from those of callers, so that callers which
/// fill their pool do not make the revocations stale.
const MAINTENANCE_CONNECTIONS: u32 = 2;

/// The most background tasks that wait for those connections; there are fewer tasks.
const MAINTENANCE_WAITING: u32 = 64;

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://…`; may hold a password.
    pub url: SecretText,
    /// The most connections for callers; two more are for maintenance.
    pub pool: u32,
    /// The longest wait for a connection.
    pub acquire_timeout: Duration,
    /// The longest that one statement may take. The limits of transactions and of waits for locks are derived from it.
    pub statement_timeout: Duration,
}

/// Users, clients, keys, revocations and the audit trail in PostgreSQL (14 or later). Cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    /// For callers.
    pub(super) db: Pool,
    /// For heartbeats, clean-up and the feed of revocations.
    pub(super) maintenance: Pool,
    endpoint: Endpoint,
    /// The longest that connecting may take.
    timeout: Duration,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}

impl PostgresStore {
    /// Connects, and finds out whether a server or a pooler answers. `STORE_UNAVAILABLE` if that fails.
    ///
    /// Does not touch the schema: see [`PostgresStore::migrate`].
    pub async fn connect(config: &PostgresConfig) -> Result<Self> {
        let limits = Limits::of(config.statement_timeout);
        let timeout = config.acquire_timeout + config.statement_timeout;
        let endpoint = Endpoint::detect(&config.url, limits, timeout).await?;
        if !endpoint.is_direct() {
            tracing::info!("the database is behind a pooler: every statement runs in a transaction of its own");
        }
        let acquire = config.acquire_timeout;
        Ok(Self {
            // If more callers waited than there are connections, they would wait longer than callers do.
            db: Pool::new(&endpoint, limits, config.pool, config.pool, acquire),
            maintenance: Pool::new(&endpoint, limits, MAINTENANCE_CONNECTIONS, MAINTENANCE_WAITING, acquire),
            endpoint,
            timeout,
        })
    }

    /// How busy the pool for callers and the pool for maintenance are.
    #[must_use]
    pub fn usage(&self) -> [(&'static str, PoolUsage); 2] {
        [("callers", self.db.usage()), ("upkeep", self.maintenance.usage())]
    }

    /// Brings the schema up to date and returns how many steps were missing. If several replicas do this at once, one
    /// does it and the others wait. A schema that is newer than this program is refused.
    pub async fn migrate(&self) -> Result<usize> {
        let (endpoint, timeout) = (self.endpoint.clone(), self.timeout);
        // In a task of its own, so that it ends even if the caller goes away.
        let task = tokio::spawn(async move {
            let connect = tokio::time::timeout(timeout, endpoint.options().connect());
            let connected = connect.await.map_err(Error::store_unavailable)?;
            let mut connection = connected.map_err(Failure::from)?;
            endpoint.check(&mut connection).await.map_err(Failure::from)?;
            Ok(migrate::migrate(&mut connection).await?)
        });
        task.await.map_err(Error::internal)?
    }

    /// The state of the schema, and the time at the server. Writes nothing.
    pub async fn look(&self) -> Result<(SchemaState, UnixMillis)> {
        let look = async {
            let mut connection = self.endpoint.options().connect().await?;
            self.endpoint.check(&mut connection).await?;
            let at = migrate::version(&mut connection).await?;
            let row = sqlx::raw_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(&mut connection)
                .await?;
            Ok::<_, Failure>((SchemaState::of(migrate::MIGRATIONS, at), UnixMillis(row.try_get(0)?)))
        };
        let looked = tokio::time::timeout(self.timeout, look).await;
        Ok(looked.map_err(Error::store_unavailable)??)
    }
}
