//! The store: its configuration and its two pools.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{Endpoint, Limits};
use super::error::Failure;
use super::migrate;
use super::pool::{Pool, PoolUsage};
use crate::clock::UnixMillis;
use crate::config::DatabaseUrl;
use crate::model::{Error, Result};
use crate::store::SchemaState;

/// Connections for reconciliation, heartbeats and clean-up. They are apart from those of callers, so that callers which
/// fill their pool do not make the revocations stale.
const MAINTENANCE_CONNECTIONS: u32 = 2;

/// The most background tasks that wait for those connections; there are fewer tasks.
const MAINTENANCE_WAITING: u32 = 64;

/// The least time between two searches for the server that can be written.
const SEARCH_INTERVAL: Duration = Duration::from_millis(200);

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// The servers, and how to log in.
    pub url: DatabaseUrl,
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
    /// Looks for the server that can be written; none if there is only one server. Ends with the store.
    _search: Option<Arc<AbortOnDropHandle<()>>>,
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
        let timeout = if config.url.hosts.len() > 1 {
            // A server that does not answer delays the search for one that does.
            config.acquire_timeout.max(Duration::from_secs(1))
        } else {
            config.acquire_timeout + config.statement_timeout
        };
        let endpoint = Endpoint::detect(&config.url, limits, timeout).await?;
        if !endpoint.is_direct() {
            tracing::info!("the database is behind a pooler: every statement runs in a transaction of its own");
        }
        let acquire = config.acquire_timeout;
        let wanted = Arc::new(Notify::new());
        // If more callers waited than there are connections, they would wait longer than callers do.
        let db = Pool::new(&endpoint, &wanted, config.pool, config.pool, acquire);
        let (size, waiting) = (MAINTENANCE_CONNECTIONS, MAINTENANCE_WAITING);
        let maintenance = Pool::new(&endpoint, &wanted, size, waiting, acquire);
        let search = endpoint.has_several().then(|| {
            let pools = [db.clone(), maintenance.clone()];
            Arc::new(AbortOnDropHandle::new(tokio::spawn(search(
                endpoint.clone(),
                pools,
                wanted,
            ))))
        });
        Ok(Self {
            db,
            maintenance,
            endpoint,
            timeout,
            _search: search,
        })
    }

    /// Uses this URL for new connections once a connection with it succeeds; open connections live out their age.
    ///
    /// `STORE_UNAVAILABLE` if it does not succeed; then nothing changes.
    pub async fn change_url(&self, url: &DatabaseUrl) -> Result<()> {
        if self.endpoint.has_several() != (url.hosts.len() > 1) {
            let problem = "one server has become several, or several one: restart the service to use them";
            return Err(Error::store_unavailable(problem));
        }
        self.endpoint.replace(url).await?;
        for pool in [&self.db, &self.maintenance] {
            pool.follow(&self.endpoint);
        }
        Ok(())
    }

    /// How busy the pool for callers and the pool for maintenance are.
    #[must_use]
    pub fn usage(&self) -> [(&'static str, PoolUsage); 2] {
        [("callers", self.db.usage()), ("upkeep", self.maintenance.usage())]
    }

    /// Brings the schema up to date and returns how many steps were missing. If several replicas do this at once, one
    /// does it and the others wait. A schema that is newer than this program is refused.
    pub async fn migrate(&self) -> Result<usize> {
        let endpoint = self.endpoint.clone();
        // In a task of its own, so that it ends even if the caller goes away.
        let task = tokio::spawn(async move {
            let mut connection = endpoint.connect().await?;
            Ok(migrate::migrate(&mut connection).await?)
        });
        task.await.map_err(Error::internal)?
    }

    /// The state of the schema, and the time at the server. Writes nothing.
    pub async fn look(&self) -> Result<(SchemaState, UnixMillis)> {
        let mut connection = self.endpoint.connect().await?;
        let look = async {
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

/// Finds the server that can be written each time that it is wanted, and makes the pools connect there.
async fn search(endpoint: Endpoint, pools: [Pool; 2], wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let before = endpoint.current();
        match endpoint.connect().await {
            Ok(connection) => {
                drop(connection);
                let server = endpoint.current();
                if server != before {
                    tracing::info!(
                        server,
                        before,
                        "another server of the database is writable; new connections go there"
                    );
                    for pool in &pools {
                        pool.follow(&endpoint);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no server of the database can be written"),
        }
        tokio::time::sleep(SEARCH_INTERVAL).await;
    }
}
