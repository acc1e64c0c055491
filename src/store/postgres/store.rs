//! The store: its configuration and its two pools.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::commits::CommitState;
use super::connect::{Endpoint, Limits, no_answer};
use super::error::{self, Failure};
use super::migrate;
use super::permits::PoolLimits;
use super::pool::{Pool, PoolUsage, client_timeout};
use super::standbys::{self, Room, Standbys};
use super::timeline::{self, CurrentCheck, TimelineReport};
use crate::clock::UnixMillis;
use crate::config::DatabaseUrl;
use crate::model::{Error, Result};
use crate::store::SchemaState;
use crate::store::durable::KnownClients;
use crate::store::outage::{OutageLog, StoreName};

/// Connections for reconciliation, heartbeats and clean-up. They are apart from those of callers, so that callers which
/// fill their pool do not make the revocations stale.
const MAINTENANCE_CONNECTIONS: u32 = 2;

/// The connections of a replica beside `storage.database_pool`: those for maintenance, one that asks whether a lost database is
/// back, and one that looks for the server that can be written.
pub const CONNECTIONS_BESIDE_POOL: u32 = MAINTENANCE_CONNECTIONS + 2;

/// The most background tasks that wait for those connections; there are fewer tasks.
const MAINTENANCE_WAITING: u32 = 64;

/// The least time between two searches for the server that can be written.
const SEARCH_INTERVAL: Duration = Duration::from_millis(200);

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// The servers, and how to log in.
    pub url: DatabaseUrl,
    /// The most connections for callers; [`CONNECTIONS_BESIDE_POOL`] more are for maintenance and for the search of a lost server.
    pub pool: u32,
    /// The longest wait for a connection.
    pub acquire_timeout: Duration,
    /// The longest that one statement may take. The limits of transactions and of waits for locks are derived from it.
    pub statement_timeout: Duration,
}

/// The state of a database, as an operator sees it.
#[derive(Clone, Debug)]
pub struct Look {
    /// The state of the schema.
    pub schema: SchemaState,
    /// Why the database cannot be used as it is; none if it can be, and if its schema exists or can be created.
    pub obstacle: Option<String>,
    /// The time at the server.
    pub time: UnixMillis,
    /// The encoding of the database (`UTF8`).
    pub encoding: String,
    /// How the feed notices that another database answers.
    pub timeline: TimelineReport,
    /// The standbys of the server.
    pub standbys: Standbys,
    /// How many connections the server has; none behind a pooler, which has limits of its own.
    pub room: Option<Room>,
}

/// Users, clients, keys, revocations and the audit trail in PostgreSQL (14 or later). Cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    /// For callers.
    pub(super) db: Pool,
    /// For heartbeats, clean-up and the feed of revocations.
    pub(super) maintenance: Pool,
    /// How the feed notices that another database answers.
    pub(super) timeline: Arc<CurrentCheck>,
    /// The clients that refreshes have read.
    pub(super) known_clients: Arc<KnownClients>,
    endpoint: Endpoint,
    commits: Arc<CommitState>,
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

/// Notices when the database is lost and when it is back.
fn outage_log(endpoint: &Endpoint, commits: &Arc<CommitState>, timeout: Duration) -> OutageLog {
    let name = StoreName {
        product: "PostgreSQL",
        label: "users",
        address: endpoint.address(),
        effect: "logins, refreshes and revocations fail until it is back, and access tokens are validated for \
                 revocation.max_staleness",
    };
    let (endpoint, commits) = (endpoint.clone(), Arc::clone(commits));
    OutageLog::new(
        name,
        Box::new(move || {
            let (endpoint, commits) = (endpoint.clone(), Arc::clone(&commits));
            async move { commits.probe(&endpoint, timeout).await }.boxed()
        }),
    )
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
        let client = client_timeout(&endpoint);
        let commits = Arc::new(CommitState::new(&endpoint, client));
        let (wanted, outage) = (Arc::new(Notify::new()), outage_log(&endpoint, &commits, timeout));
        let pool = |limits| Pool::new(&endpoint, &wanted, limits, Arc::clone(&commits), outage.clone());
        let acquire_timeout = config.acquire_timeout;
        let db = pool(PoolLimits {
            size: config.pool,
            // If more callers waited than there are connections, they would wait longer than callers do.
            waiting: config.pool,
            acquire_timeout,
            write_timeout: acquire_timeout,
        });
        let maintenance = pool(PoolLimits {
            size: MAINTENANCE_CONNECTIONS,
            waiting: MAINTENANCE_WAITING,
            acquire_timeout,
            // One write at a time, and no caller waits: a task may wait for that of another.
            write_timeout: acquire_timeout + client,
        });
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
            timeline: Arc::new(CurrentCheck::new()),
            known_clients: Arc::new(KnownClients::new()),
            endpoint,
            commits,
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
            let migrated = async { migrate::migrate(&mut endpoint.connect().await?).await };
            migrated
                .await
                .map_err(|failure: Failure| failure.explained(&endpoint.place()))
        });
        task.await.map_err(Error::internal)?
    }

    /// The state of the database. Writes nothing.
    pub async fn look(&self) -> Result<Look> {
        self.ask(async |connection| {
            let at = migrate::version(connection).await?;
            let row = sqlx::raw_sql(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_encoding_to_char(encoding)::text
                 FROM pg_database WHERE datname = current_database()",
            )
            .fetch_one(&mut *connection)
            .await?;
            let read_only = sqlx::raw_sql("SELECT current_setting('transaction_read_only') = 'on'");
            let obstacle = if read_only.fetch_one(&mut *connection).await?.try_get(0)? {
                Some(
                    "takes no writes (default_transaction_read_only is on): name the primary, or switch it off"
                        .to_owned(),
                )
            } else if at == 0 {
                migrate::obstacle(connection).await?
            } else {
                None
            };
            Ok(Look {
                schema: SchemaState::of(migrate::MIGRATIONS, at),
                time: UnixMillis(row.try_get(0)?),
                encoding: row.try_get(1)?,
                obstacle,
                timeline: timeline::detect(connection).await?,
                standbys: standbys::look(connection).await?,
                room: if self.endpoint.is_direct() {
                    Some(standbys::room(connection).await?)
                } else {
                    None
                },
            })
        })
        .await
    }

    /// Why no commit ends; none if they do. Makes one that changes nothing, if the server has a synchronous standby.
    pub async fn commits_wait(&self) -> Result<Option<String>> {
        let place = self.endpoint.place();
        let checked = self.commits.check(&self.endpoint).await;
        checked.map_err(|failure| failure.explained(&place))
    }

    /// Finds the strongest check of the timeline that the server answers, and uses it from now on.
    pub async fn timeline_check(&self) -> Result<TimelineReport> {
        let report = self.ask(timeline::detect).await?;
        self.timeline.set(&report);
        Ok(report)
    }

    /// Asks on a connection of its own, within the time that connecting may take.
    pub(super) async fn ask<T>(&self, question: impl AsyncFnOnce(&mut PgConnection) -> error::Result<T>) -> Result<T> {
        let connected = self.endpoint.connect().await;
        let place = self.endpoint.place();
        let mut connection = connected.map_err(|failure| failure.explained(&place))?;
        match tokio::time::timeout(self.timeout, question(&mut connection)).await {
            Ok(done) => done.map_err(|failure| failure.explained(&place)),
            Err(_) => Err(no_answer(&place, self.timeout)),
        }
    }
}

/// Finds the server that can be written each time that it is wanted, and makes the pools connect there.
async fn search(endpoint: Endpoint, pools: [Pool; 2], wanted: Arc<Notify>) {
    // The server that the pools follow. The probe of an outage may have found another one already.
    let mut followed = endpoint.current();
    loop {
        wanted.notified().await;
        match endpoint.connect().await {
            Ok(connection) => {
                drop(connection);
                for pool in &pools {
                    pool.follow(&endpoint);
                }
                let server = endpoint.current();
                if server != followed {
                    tracing::info!(
                        server,
                        before = followed,
                        "another server of the database is writable; new connections go there"
                    );
                    followed = server;
                }
            }
            Err(error) => tracing::debug!(%error, "no server of the database can be written"),
        }
        tokio::time::sleep(SEARCH_INTERVAL).await;
    }
}
