//! The stores of the configured deployment.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::error::StartError;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Mode};
use crate::model::{Error, ErrorKind, Result};
use crate::secret::{Entropy, SystemEntropy};
use crate::store::local::LocalThrottles;
use crate::store::postgres::{PostgresConfig, PostgresStore};
use crate::store::redis::{ConnectError, MemoryUsage, Redis, Settings as RedisSettings};
use crate::store::sqlite::{Database, Mode as FolderMode};
use crate::store::{Announcements, DurableStore, SchemaState, SessionStore, ThrottleStore};

/// The purpose for which the stores are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To serve; creates the store if it does not exist. An embedded store has one server at a time.
    Serve,
    /// To bring the schema up to date; creates the store if it does not exist. A server may run.
    Migrate,
    /// For a subcommand. The store must exist; a server may run.
    Subcommand,
}

/// Sets the gauges of the stores' connections and queues.
pub type UpdateGauges = Arc<dyn Fn() + Send + Sync>;

/// Reads how much is stored, and sets the gauges of that.
pub type MeasureUsage = Arc<dyn Fn(Usage) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The memory of the store of sessions.
    Memory,
    /// The number of sessions.
    Sessions,
}

/// The stores, with the clock and the randomness that they use.
pub struct Stores {
    /// The purpose for which they were opened.
    pub access: Access,
    /// The backends of a clustered store, whose logins can change while it is open.
    pub(super) clustered: Option<(PostgresStore, Arc<Redis>)>,
    /// The configured servers of Redis, under which the nodes that they named are remembered.
    pub(super) redis_configured: String,
    /// The durable record: users, clients, keys, revocations, audit trail.
    pub durable: Arc<dyn DurableStore>,
    /// Live sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Announcements between replicas; none for an embedded store.
    pub announcements: Option<Arc<dyn Announcements>>,
    /// The counters of failed logins that replicas share; none for an embedded store.
    pub throttles: Option<Arc<dyn ThrottleStore>>,
    /// The counters of failed logins that this process keeps, for an embedded store and while the shared ones are out of
    /// reach.
    pub local_throttles: Arc<dyn ThrottleStore>,
    /// The clock of this machine, for the stores and everything above them.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Sets the gauges of connections and queues.
    pub update_gauges: UpdateGauges,
    /// Sets the gauges of memory and sessions.
    pub measure: MeasureUsage,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores")
            .field("clustered", &self.announcements.is_some())
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Stores that were opened elsewhere, for a server. Nothing measures them.
    #[must_use]
    pub fn of(
        durable: Arc<dyn DurableStore>,
        sessions: Arc<dyn SessionStore>,
        announcements: Option<Arc<dyn Announcements>>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            access: Access::Serve,
            clustered: None,
            redis_configured: String::new(),
            durable,
            sessions,
            announcements,
            throttles: None,
            local_throttles: Arc::new(LocalThrottles::new(clock.clone())),
            clock,
            entropy,
            update_gauges: Arc::new(|| {}),
            measure: Arc::new(|_| async { Ok(()) }.boxed()),
        }
    }
}

/// Opens the stores and brings their schema up to date.
pub async fn open(config: &Config, access: Access) -> Result<Stores, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    match config.mode() {
        Mode::Embedded => embedded(config, access, clock, entropy).await,
        Mode::Clustered => clustered(config, access, clock, entropy).await,
    }
}

async fn embedded(
    config: &Config,
    access: Access,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Stores, StartError> {
    let mode = match access {
        Access::Serve => FolderMode::Serve,
        Access::Migrate | Access::Subcommand => FolderMode::Subcommand,
    };
    let (folder, opening) = (config.storage.data_dir.clone(), clock.clone());
    if access == Access::Subcommand && !Database::exists(&folder) {
        return Err(no_store(config));
    }
    let opened = tokio::task::spawn_blocking(move || Database::open(&folder, mode, opening)).await;
    let database = opened.map_err(|error| StartError::Other(error.to_string()))??;
    let (measured, counted) = (database.clone(), database.clone());
    Ok(Stores {
        access,
        clustered: None,
        redis_configured: String::new(),
        update_gauges: Arc::new(move || {
            metrics::gauge!("countersign_sqlite_queue_length").set(number(measured.queued()));
        }),
        measure: Arc::new(move |usage| {
            let database = counted.clone();
            async move {
                if usage == Usage::Sessions {
                    set_sessions(database.count_sessions().await?);
                }
                Ok(())
            }
            .boxed()
        }),
        durable: Arc::new(database.clone()),
        sessions: Arc::new(database),
        announcements: None,
        throttles: None,
        local_throttles: Arc::new(LocalThrottles::new(clock.clone())),
        clock,
        entropy,
    })
}

async fn clustered(
    config: &Config,
    access: Access,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Stores, StartError> {
    let storage = &config.storage;
    // The check of the configuration refuses one without the other.
    let (Some(database), Some(redis)) = (storage.database()?, storage.redis()?) else {
        return Err(StartError::Config(
            "storage.database_url and storage.redis_url go together".into(),
        ));
    };
    let settings = PostgresConfig {
        url: database,
        pool: storage.database_pool,
        acquire_timeout: storage.acquire_timeout,
        statement_timeout: storage.statement_timeout,
    };
    let unusable = |error: Error| {
        let what = "storage.database_url: the database cannot be used";
        if error.kind == ErrorKind::StoreUnavailable {
            StartError::unreachable(what, error)
        } else {
            StartError::Other(format!("{what}: {error}"))
        }
    };
    let durable = PostgresStore::connect(&settings).await.map_err(unusable)?;
    if access == Access::Subcommand {
        let look = durable.look().await.map_err(unusable)?;
        if matches!(look.schema, SchemaState::Older { at: 0, .. }) {
            return Err(no_store(config));
        }
    }
    durable.migrate().await.map_err(unusable)?;
    if access == Access::Serve {
        durable.timeline_check().await.map_err(unusable)?;
    }
    let settings = RedisSettings {
        url: redis,
        prefix: storage.redis_prefix.clone(),
        pool: storage.redis_pool,
        timeout: storage.redis_timeout,
    };
    let configured = settings.deployment();
    // A replica whose role may not read the table, or whose schema is older, does without.
    let remembered = durable.redis_nodes(&configured).await.unwrap_or_default();
    let redis = Redis::connect_with(settings, &remembered, clock.clone(), entropy.clone())
        .await
        .map_err(|error| match error {
            ConnectError::Settings(text) => StartError::Config(text),
            // Redis was reached, but its settings would lose sessions.
            unusable @ ConnectError::Unusable(_) => StartError::Other(unusable.to_string()),
        })?;
    let redis = Arc::new(redis);
    let (database, sessions, measured) = (durable.clone(), redis.clone(), redis.clone());
    Ok(Stores {
        access,
        clustered: Some((durable.clone(), redis.clone())),
        redis_configured: configured,
        update_gauges: Arc::new(move || measure(&database, &sessions)),
        measure: Arc::new(move |usage| {
            let redis = measured.clone();
            async move {
                match usage {
                    Usage::Memory => set_memory(redis.memory_usage().await?),
                    Usage::Sessions => set_sessions(redis.count_sessions().await?),
                }
                Ok(())
            }
            .boxed()
        }),
        durable: Arc::new(durable),
        sessions: redis.clone(),
        announcements: Some(redis.clone()),
        throttles: Some(redis),
        local_throttles: Arc::new(LocalThrottles::new(clock.clone())),
        clock,
        entropy,
    })
}

/// The error of a command that needs an existing store. The cure names both mistakes: a store that was never created, and
/// a command without the configuration that names the store.
fn no_store(config: &Config) -> StartError {
    let name = config.storage.describe();
    StartError::Unreachable(format!(
        "{name} does not exist; name the right store with --config, --data-dir or the environment of the service, \
         or create it with `countersign serve` or `countersign migrate`"
    ))
}

fn measure(database: &PostgresStore, sessions: &Redis) {
    for (pool, usage) in database.usage() {
        let used = usage.open.saturating_sub(usage.idle);
        for (state, count) in [("idle", usage.idle), ("used", used)] {
            metrics::gauge!("countersign_database_connections", "pool" => pool, "state" => state).set(f64::from(count));
        }
        metrics::gauge!("countersign_database_callers", "pool" => pool).set(f64::from(usage.callers));
    }
    let (all, open) = sessions.connections();
    for (state, count) in [("open", open), ("broken", all - open)] {
        metrics::gauge!("countersign_redis_connections", "state" => state).set(number(count));
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn set_sessions(count: u64) {
    metrics::gauge!("countersign_sessions").set(count as f64);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn set_memory(usage: MemoryUsage) {
    metrics::gauge!("countersign_redis_memory_used_bytes").set(usage.used as f64);
    metrics::gauge!("countersign_redis_memory_max_bytes").set(usage.max as f64);
    metrics::gauge!("countersign_redis_memory_used_ratio").set(usage.fullest);
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
