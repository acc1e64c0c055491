//! Keeps the connections open, and examines every master before it is used: one that evicts keys would drop live
//! sessions.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::{ClientLike, ClusterInterface as _, EventInterface as _};
use fred::types::config::{Options, Server};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::Examination;
use super::client::RedisClient;
use super::settings::Settings;
use crate::clock::UnixMillis;

/// The pause between two attempts to connect, or to examine a Redis that could not be examined or was unusable.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The oldest major version whose scripts can carry `allow-oom`: they run while the memory of Redis is full.
const MIN_MAJOR_VERSION: u32 = 7;

/// The result of checking every master.
#[derive(Debug, Default)]
pub(super) struct MasterChecks {
    /// Why a master must not be used.
    pub(super) unusable: Option<String>,
    /// A master that writes nothing to disk.
    pub(super) not_persistent: Option<String>,
}

/// Checks the masters over temporary connections, and reads the time of a server. Fails at once if Redis cannot be reached.
pub(super) async fn examine(builder: &Builder, settings: &Settings) -> Result<Examination, FredError> {
    let client = builder.build()?;
    let _task = AbortOnDropHandle::new(client.init().await?);
    let MasterChecks {
        unusable,
        not_persistent,
    } = check_masters(&client, settings.connect_timeout()).await?;
    let time = CustomCommand::new_static("TIME", ClusterHash::Random, false);
    let (seconds, micros): (i64, i64) = client.custom(time, Vec::<Value>::new()).await?;
    Ok(Examination {
        unusable,
        not_persistent,
        time: UnixMillis(seconds.saturating_mul(1000).saturating_add(micros / 1000)),
    })
}

/// Starts the tasks that keep the connections of `client` open and check the masters after each reconnection.
pub(super) fn spawn_tasks(client: &Arc<RedisClient>, connect_timeout: Duration) -> Vec<AbortOnDropHandle<()>> {
    let reconnected = Arc::new(Notify::new());
    let mut tasks = Vec::new();
    for connection in client.clients() {
        let mut events = connection.reconnect_rx();
        let notify = Arc::clone(&reconnected);
        tasks.push(tokio::spawn(async move {
            while !matches!(
                events.recv().await,
                Err(tokio::sync::broadcast::error::RecvError::Closed)
            ) {
                notify.notify_one();
            }
        }));
        tasks.push(tokio::spawn(stay_connected(connection.clone())));
    }
    if let Some(connection) = client.clients().next() {
        tasks.push(tokio::spawn(check_after_reconnections(
            Arc::clone(client),
            connection.clone(),
            reconnected,
            connect_timeout,
        )));
    }
    tasks.into_iter().map(AbortOnDropHandle::new).collect()
}

/// Restarts fred's connection task. fred reconnects by itself; its task ends only where it considers an error
/// permanent.
async fn stay_connected(connection: Client) {
    let mut logged = None;
    loop {
        let error = match AbortOnDropHandle::new(connection.connect()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if error != logged {
            warn!(?error, "a connection to Redis was closed for good; a new one is opened");
            logged = error;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Checks the masters whenever a connection was made, and then every second until all of them are usable.
async fn check_after_reconnections(
    client: Arc<RedisClient>,
    connection: Client,
    reconnected: Arc<Notify>,
    connect_timeout: Duration,
) {
    loop {
        reconnected.notified().await;
        while !is_usable(&client, &connection, connect_timeout).await {
            tokio::time::sleep(RETRY_INTERVAL).await;
            // While the connection is down, commands would only queue up.
            while !connection.is_connected() {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        client.notify_reconnected();
    }
}

async fn is_usable(client: &RedisClient, connection: &Client, connect_timeout: Duration) -> bool {
    let Ok(MasterChecks { unusable, .. }) = check_masters(connection, connect_timeout).await else {
        return false;
    };
    let is_usable = unusable.is_none();
    match (client.set_unusable(unusable.clone()), unusable) {
        (true, Some(reason)) => error!(%reason, "Redis must not be used; it is checked again every second"),
        (true, None) => info!("Redis is connected and usable"),
        (false, _) => {}
    }
    is_usable
}

async fn check_masters(client: &Client, timeout: Duration) -> Result<MasterChecks, FredError> {
    let masters: Vec<Option<Server>> = match client.cached_cluster_state() {
        Some(routing) => routing.unique_primary_nodes().into_iter().map(Some).collect(),
        None => vec![None],
    };
    let mut checks = MasterChecks::default();
    for cluster_node in masters {
        let name = cluster_node
            .as_ref()
            .map_or_else(|| "Redis".to_owned(), |server| format!("Redis at {server}"));
        let client = client.with_options(&Options {
            cluster_node,
            timeout: Some(timeout),
            ..Options::default()
        });
        let info: String = client.info(None).await?;
        let version = info_field(&info, "redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < MIN_MAJOR_VERSION) {
            checks.unusable = Some(format!("{name} is version {version}; 7.0 or later is needed"));
        }
        let policy = info_field(&info, "maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            checks.unusable = Some(format!(
                "{name} has maxmemory-policy {policy}; set it to noeviction, or live sessions are dropped when memory \
                 is full"
            ));
        }
        if info_field(&info, "aof_enabled") == Some("0") && !takes_snapshots(&client).await {
            checks.not_persistent = Some(name);
        }
    }
    Ok(checks)
}

/// Whether `save` is set. Where CONFIG is forbidden, as on managed services, the answer is yes.
async fn takes_snapshots(client: &impl ClientLike) -> bool {
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let save: Result<Value, FredError> = client.custom(config, vec!["GET", "save"]).await;
    !matches!(save.map(Value::into_array).as_deref(), Ok([_, value]) if value.as_str().as_deref() == Some(""))
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
