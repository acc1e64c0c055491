//! Keeps the connections, and examines every master before it is used: one that evicts keys would drop live sessions.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::{ClientLike, ClusterInterface as _, EventInterface as _};
use fred::types::config::{Options, Server};
use fred::types::{Builder, ClusterHash, CustomCommand, InfoKind, Value};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::Examination;
use super::link::Link;
use super::settings::Settings;
use crate::clock::UnixMillis;

/// Between two examinations of a Redis that could not be examined, or was found unfit.
const AGAIN: Duration = Duration::from_secs(1);

/// The oldest version whose scripts can say that they may run while memory is short.
const OLDEST: u32 = 7;

/// What an examination found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Why a master must not be used.
    pub(super) unfit: Option<String>,
    /// A master that writes nothing to disk.
    pub(super) volatile: Option<String>,
}

/// Examines the deployment over connections of its own. Fails at once if it cannot be reached.
pub(super) async fn probe(builder: &Builder, settings: &Settings) -> Result<Findings, FredError> {
    let client = builder.build()?;
    let _task = AbortOnDropHandle::new(client.init().await?);
    examine(&client, settings.patience()).await
}

/// Examines the deployment over connections of its own, and asks what time it is there.
pub(super) async fn look(builder: &Builder, settings: &Settings) -> Result<Examination, FredError> {
    let client = builder.build()?;
    let _task = AbortOnDropHandle::new(client.init().await?);
    let Findings { unfit, volatile } = examine(&client, settings.patience()).await?;
    let time = CustomCommand::new_static("TIME", ClusterHash::Random, false);
    let (seconds, micros): (i64, i64) = client.custom(time, Vec::<Value>::new()).await?;
    let time = UnixMillis(seconds.saturating_mul(1000).saturating_add(micros / 1000));
    Ok(Examination { unfit, volatile, time })
}

/// Starts the tasks that keep the clients of `link` connected and examine Redis at each reconnection.
pub(super) fn keep(link: &Arc<Link>, patience: Duration) -> Vec<AbortOnDropHandle<()>> {
    let reconnected = Arc::new(Notify::new());
    let mut tasks = Vec::new();
    for client in link.clients() {
        let mut events = client.reconnect_rx();
        let notify = Arc::clone(&reconnected);
        tasks.push(tokio::spawn(async move {
            while !matches!(
                events.recv().await,
                Err(tokio::sync::broadcast::error::RecvError::Closed)
            ) {
                notify.notify_one();
            }
        }));
        tasks.push(tokio::spawn(stay_connected(client.clone())));
    }
    if let Some(client) = link.clients().next() {
        tasks.push(tokio::spawn(judge(
            Arc::clone(link),
            client.clone(),
            reconnected,
            patience,
        )));
    }
    tasks.into_iter().map(AbortOnDropHandle::new).collect()
}

/// fred reconnects by itself; its task ends only where it thinks that nothing will help.
async fn stay_connected(client: Client) {
    let mut told = None;
    loop {
        let why = match AbortOnDropHandle::new(client.connect()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if why != told {
            warn!(?why, "a connection to Redis was given up; it is made again");
            told = why;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Examines Redis whenever a connection was made, and once more each second until it was found fit.
async fn judge(link: Arc<Link>, client: Client, reconnected: Arc<Notify>, patience: Duration) {
    loop {
        reconnected.notified().await;
        while !is_fit(&link, &client, patience).await {
            tokio::time::sleep(AGAIN).await;
            // What is asked meanwhile would only queue up.
            while !client.is_connected() {
                tokio::time::sleep(AGAIN).await;
            }
        }
        link.reconnected();
    }
}

async fn is_fit(link: &Link, client: &Client, patience: Duration) -> bool {
    let Ok(findings) = examine(client, patience).await else {
        return false;
    };
    let fit = findings.unfit.is_none();
    match (link.declare(findings.unfit.clone()), findings.unfit) {
        (true, Some(why)) => error!(%why, "Redis is not used until that is mended"),
        (true, None) => info!("Redis is connected and fit for use"),
        (false, _) => {}
    }
    fit
}

async fn examine(client: &Client, patience: Duration) -> Result<Findings, FredError> {
    let masters: Vec<Option<Server>> = match client.cached_cluster_state() {
        Some(routing) => routing.unique_primary_nodes().into_iter().map(Some).collect(),
        None => vec![None],
    };
    let mut findings = Findings::default();
    for cluster_node in masters {
        let name = cluster_node
            .as_ref()
            .map_or_else(|| "Redis".to_owned(), |server| format!("Redis at {server}"));
        let client = client.with_options(&Options {
            cluster_node,
            timeout: Some(patience),
            ..Options::default()
        });
        let server: String = client.info(Some(InfoKind::Server)).await?;
        let version = field(&server, "redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST) {
            findings.unfit = Some(format!("{name} is version {version}; 7.0 or later is needed"));
        }
        let memory: String = client.info(Some(InfoKind::Memory)).await?;
        let policy = field(&memory, "maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            findings.unfit = Some(format!(
                "{name} has maxmemory-policy {policy}: it must be noeviction, or live sessions are dropped when memory \
                 is full"
            ));
        }
        let persistence: String = client.info(Some(InfoKind::Persistence)).await?;
        if field(&persistence, "aof_enabled") == Some("0") && !takes_snapshots(&client).await {
            findings.volatile = Some(name);
        }
    }
    Ok(findings)
}

/// Whether `save` is set. Where CONFIG is forbidden (managed services) it is taken to be.
async fn takes_snapshots(client: &impl ClientLike) -> bool {
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let save: Result<Value, FredError> = client.custom(config, vec!["GET", "save"]).await;
    !matches!(save.map(Value::into_array).as_deref(), Ok([_, value]) if value.as_str().as_deref() == Some(""))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
