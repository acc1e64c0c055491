//! Examines every master before it is used: one that evicts keys would drop live sessions.

use std::sync::Weak;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::ClientLike;
use fred::types::config::{Options, Server};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::Examination;
use super::acl;
use super::client::RedisClient;
use super::discovery::Finder;
use super::members::Members;
use super::settings::{Settings, at};
use super::topology::Topology;
use crate::clock::UnixMillis;
use crate::model::ErrorKind;
use crate::store::outage::{OutageLog, Probe, StoreName};

/// The pause between two attempts to connect, or to examine a Redis that could not be examined or was unusable.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The oldest major version whose scripts can carry `allow-oom`: they run while the memory of Redis is full.
const MIN_MAJOR_VERSION: u32 = 7;

/// The result of checking a master.
#[derive(Debug, Default)]
pub(super) struct MasterChecks {
    /// Why a master must not be used.
    pub(super) unusable: Option<String>,
    /// Why a server cannot be used at the moment. It may become usable by itself.
    pub(super) unavailable: Option<String>,
    /// A master that writes nothing to disk.
    pub(super) not_persistent: Option<String>,
}

/// What is needed to examine a deployment over temporary connections.
#[derive(Clone, Debug)]
pub(super) struct Examiner {
    pub(super) builder: Builder,
    pub(super) finder: Option<Finder>,
    pub(super) settings: Settings,
}

/// Why a deployment could not be examined.
#[derive(Debug)]
pub(super) struct ExamineError {
    /// The master that failed; none if none was found, or for the one server of the configuration.
    pub(super) server: Option<Server>,
    pub(super) error: FredError,
}

impl ExamineError {
    /// The cause, with the master that failed.
    pub(super) fn cause(&self) -> String {
        let cause = cause(&self.error);
        self.server
            .as_ref()
            .map_or_else(|| cause.clone(), |server| format!("master {server}: {cause}"))
    }
}

impl Examiner {
    /// Finds the masters and checks them, and reads the time of one. Fails at once if Redis cannot be reached. `known` are nodes
    /// that can be asked besides those of the configuration.
    pub(super) async fn examine(&self, known: &Members) -> Result<Examination, ExamineError> {
        let topology = match &self.finder {
            None => Topology::single(),
            Some(finder) => {
                let found = finder.look(known).await;
                found.map_err(|error| ExamineError { server: None, error })?
            }
        };
        let masters = topology.masters.into_iter().map(|master| master.server);
        let checked = join_all(masters.map(|server| async {
            let checked = self.examine_master(server.as_ref()).await;
            checked.map_err(|error| ExamineError { server, error })
        }));
        let (mut whole, mut problem) = (MasterChecks::default(), None);
        let mut time = None;
        for result in checked.await {
            match result {
                Ok((checks, now)) => {
                    whole.unusable = whole.unusable.or(checks.unusable);
                    whole.unavailable = whole.unavailable.or(checks.unavailable);
                    whole.not_persistent = whole.not_persistent.or(checks.not_persistent);
                    time = time.or(now);
                }
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        match problem {
            Some(problem) if whole.unusable.is_none() => Err(problem),
            Some(_) | None => Ok(Examination {
                time: time.filter(|_| whole.unusable.is_none()),
                unusable: whole.unusable,
                unavailable: whole.unavailable,
                not_persistent: whole.not_persistent,
            }),
        }
    }

    async fn examine_master(&self, server: Option<&Server>) -> Result<(MasterChecks, Option<UnixMillis>), FredError> {
        let builder = server.map_or_else(|| self.builder.clone(), |server| at(&self.builder, server));
        let client = builder.build()?;
        let _task = AbortOnDropHandle::new(client.init().await?);
        let settings = &self.settings;
        let (clustered, timeout) = (settings.is_clustered(), settings.connect_timeout());
        let checks = check_master(&client, server, &settings.prefix, clustered, timeout).await?;
        let time = match checks.unusable {
            // It may not even tell the time.
            Some(_) => None,
            None => Some(time(&client).await?),
        };
        Ok((checks, time))
    }
}

/// The name of a master in messages; the one server of the configuration has none.
pub(super) fn name(server: Option<&Server>) -> String {
    server.map_or_else(|| "Redis".to_owned(), |server| format!("Redis at {server}"))
}

async fn time(client: &Client) -> Result<UnixMillis, FredError> {
    let time = CustomCommand::new_static("TIME", ClusterHash::Random, false);
    let (seconds, micros): (i64, i64) = client.custom(time, Vec::<Value>::new()).await?;
    Ok(UnixMillis(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
}

/// Notices when Redis is lost and when it is back. `client` has the connections in use; the examiner asks over others.
pub(super) fn outage_log(client: Weak<RedisClient>, examiner: &Examiner) -> OutageLog {
    let name = StoreName {
        product: "Redis",
        label: "sessions",
        address: examiner.settings.address(),
        effect: "logins with a password and refreshes fail until it is back; access tokens are validated and revocations \
                 are acknowledged",
    };
    OutageLog::new(name, probe(client, examiner.clone()))
}

fn probe(client: Weak<RedisClient>, examiner: Examiner) -> Probe {
    Box::new(move || {
        let (client, examiner) = (client.clone(), examiner.clone());
        async move {
            let known = client.upgrade().map(|client| client.found.nodes.borrow().clone());
            let examination = examiner.examine(&known.unwrap_or_default()).await;
            let examination = examination.map_err(|error| error.cause())?;
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

/// Restarts fred's connection task. fred reconnects by itself; its task ends only where it considers an error
/// permanent.
pub(super) async fn stay_connected(connection: Client) {
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

/// Checks one master over this connection to it.
pub(super) async fn check_master(
    client: &Client,
    server: Option<&Server>,
    prefix: &str,
    clustered: bool,
    timeout: Duration,
) -> Result<MasterChecks, FredError> {
    let name = name(server);
    let mut checks = MasterChecks::default();
    let client = client.with_options(&Options {
        timeout: Some(timeout),
        ..Options::default()
    });
    // First, because a user who lacks rights may not even ask for the rest.
    if let Some(missing) = acl::missing_rights(&client, prefix, clustered).await? {
        checks.unusable = Some(missing);
        return Ok(checks);
    }
    let info: Result<String, FredError> = client.info(None).await;
    let info = info.map_err(|error| FredError::new(error.kind().clone(), format!("{name}: {}", error.details())))?;
    if info_field(&info, "loading") == Some("1") {
        return Err(FredError::new(FredKind::Unknown, format!("{name} is loading its data")));
    }
    match (info_field(&info, "redis_mode"), clustered) {
        (Some("sentinel"), _) => {
            checks.unusable = Some(format!(
                "{name} is a Sentinel: write redis-sentinel://HOST:PORT?sentinelServiceName=NAME in storage.redis_url"
            ));
            return Ok(checks);
        }
        (Some("cluster"), false) => {
            checks.unusable = Some(format!(
                "{name} is a node of a cluster: write redis-cluster:// in place of redis:// in storage.redis_url"
            ));
            return Ok(checks);
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
