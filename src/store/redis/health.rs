//! Keeps the connections open, and examines every master before it is used: one that evicts keys would drop live
//! sessions.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, ClusterInterface as _, EventInterface as _};
use fred::types::config::{Options, Server};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};

use super::Examination;
use super::acl;
use super::client::{NOT_EXAMINED, RedisClient};
use super::settings::Settings;
use crate::clock::UnixMillis;
use crate::model::ErrorKind;
use crate::store::outage::{OutageLog, Probe, StoreName};

/// The pause between two attempts to connect, or to examine a Redis that could not be examined or was unusable.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The oldest major version whose scripts can carry `allow-oom`: they run while the memory of Redis is full.
const MIN_MAJOR_VERSION: u32 = 7;

/// The result of checking every master.
#[derive(Debug, Default)]
pub(super) struct MasterChecks {
    /// Why a master must not be used.
    pub(super) unusable: Option<String>,
    /// Why a server cannot be used at the moment. It may become usable by itself.
    pub(super) unavailable: Option<String>,
    /// A master that writes nothing to disk.
    pub(super) not_persistent: Option<String>,
}

/// Checks the masters over temporary connections, and reads the time of a server. Fails at once if Redis cannot be reached.
pub(super) async fn examine(builder: &Builder, settings: &Settings) -> Result<Examination, FredError> {
    let client = builder.build()?;
    let _task = AbortOnDropHandle::new(client.init().await?);
    let MasterChecks {
        unusable,
        unavailable,
        not_persistent,
    } = check_masters(&client, &settings.prefix, settings.connect_timeout()).await?;
    let time = match unusable {
        // It may not even tell the time.
        Some(_) => None,
        None => Some(time(&client).await?),
    };
    Ok(Examination {
        unusable,
        unavailable,
        not_persistent,
        time,
    })
}

async fn time(client: &Client) -> Result<UnixMillis, FredError> {
    let time = CustomCommand::new_static("TIME", ClusterHash::Random, false);
    let (seconds, micros): (i64, i64) = client.custom(time, Vec::<Value>::new()).await?;
    Ok(UnixMillis(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
}

/// Notices when Redis is lost and when it is back. `client` are the connections in use, and `builder` makes those with which
/// Redis is asked.
pub(super) fn outage_log(client: Weak<RedisClient>, builder: &Builder, settings: &Settings) -> OutageLog {
    let name = StoreName {
        product: "Redis",
        label: "sessions",
        address: settings.address(),
        effect: "logins with a password and refreshes fail until it is back; access tokens are validated and revocations \
                 are acknowledged",
    };
    OutageLog::new(name, probe(client, builder.clone(), settings.clone()))
}

fn probe(client: Weak<RedisClient>, builder: Builder, settings: Settings) -> Probe {
    Box::new(move || {
        let (client, builder, settings) = (client.clone(), builder.clone(), settings.clone());
        async move {
            let examination = examine(&builder, &settings).await.map_err(|error| cause(&error))?;
            if let Some(reason) = examination.unavailable {
                return Err(reason);
            }
            // A Redis that must not be used has log lines of its own.
            let (Some(client), None) = (client.upgrade(), examination.unusable) else {
                return Ok(());
            };
            // Redis answers. It is back when calls are answered, too: they use other connections.
            match client.ping_uncounted().await {
                Err(error) if error.kind == ErrorKind::StoreUnavailable => Err(error.cause_text()),
                Ok(()) | Err(_) => Ok(()),
            }
        }
        .boxed()
    })
}

/// The cause of an error, for the log. The client library writes errors of the system with their fields; their message is
/// enough.
pub(super) fn cause(error: &FredError) -> String {
    let details = error.details();
    let message = details
        .split_once("message: \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    message.map_or_else(|| error.to_string(), |(message, _)| message.to_owned())
}

/// Starts the tasks that keep the connections of `client` open and check the masters after each reconnection.
pub(super) fn spawn_tasks(client: &Arc<RedisClient>, settings: &Settings) -> Vec<AbortOnDropHandle<()>> {
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
            settings.prefix.clone(),
            settings.connect_timeout(),
        )));
    }
    tasks.into_iter().map(AbortOnDropHandle::new).collect()
}

/// Restarts fred's connection task. fred reconnects by itself; its task ends only where it considers an error
/// permanent.
async fn stay_connected(connection: Client) {
    loop {
        let error = match AbortOnDropHandle::new(connection.connect()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        // Not an edge: calls use the other connections, and without any the outage has its own lines.
        debug!(?error, "a connection to Redis was closed for good; a new one is opened");
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Checks the masters whenever a connection was made, and then every second until all of them are usable.
async fn check_after_reconnections(
    client: Arc<RedisClient>,
    connection: Client,
    reconnected: Arc<Notify>,
    prefix: String,
    connect_timeout: Duration,
) {
    loop {
        reconnected.notified().await;
        while !is_usable(&client, &connection, &prefix, connect_timeout).await {
            tokio::time::sleep(RETRY_INTERVAL).await;
            // While the connection is down, commands would only queue up.
            while !connection.is_connected() {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        client.notify_reconnected();
    }
}

async fn is_usable(client: &RedisClient, connection: &Client, prefix: &str, connect_timeout: Duration) -> bool {
    let Ok(checks) = check_masters(connection, prefix, connect_timeout).await else {
        return false;
    };
    let unusable = checks.unusable.or(checks.unavailable);
    let is_usable = unusable.is_none();
    match (client.set_unusable(unusable.clone()), unusable) {
        (before, Some(reason)) if before.as_ref() != Some(&reason) => {
            error!(%reason, "Redis must not be used; it is checked again every second");
        }
        (Some(before), None) if before != NOT_EXAMINED => info!("Redis is usable again"),
        _ => {}
    }
    is_usable
}

async fn check_masters(client: &Client, prefix: &str, timeout: Duration) -> Result<MasterChecks, FredError> {
    let masters: Vec<Option<Server>> = match client.cached_cluster_state() {
        Some(routing) => routing.unique_primary_nodes().into_iter().map(Some).collect(),
        None => vec![None],
    };
    let clustered = client.is_clustered();
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
        // First, because a user who lacks rights may not even ask for the rest.
        if let Some(missing) = acl::missing_rights(&client, prefix, clustered).await? {
            checks.unusable = Some(missing);
            continue;
        }
        let info: Result<String, FredError> = client.info(None).await;
        let info =
            info.map_err(|error| FredError::new(error.kind().clone(), format!("{name}: {}", error.details())))?;
        if info_field(&info, "loading") == Some("1") {
            return Err(FredError::new(FredKind::Unknown, format!("{name} is loading its data")));
        }
        match (info_field(&info, "redis_mode"), clustered) {
            (Some("sentinel"), _) => {
                checks.unusable = Some(format!(
                    "{name} is a Sentinel: write redis-sentinel://HOST:PORT?sentinelServiceName=NAME in storage.redis_url"
                ));
                continue;
            }
            (Some("cluster"), false) => {
                checks.unusable = Some(format!(
                    "{name} is a node of a cluster: write redis-cluster:// in place of redis:// in storage.redis_url"
                ));
                continue;
            }
            _ => {}
        }
        if info_field(&info, "role") == Some("slave") {
            checks.unavailable = Some(format!(
                "{name} is a replica, which takes no writes: name its master in storage.redis_url, or the Sentinels"
            ));
        }
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

/// The value of a field in a reply of INFO.
pub(super) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
