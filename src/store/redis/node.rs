//! One server that takes calls: its connections, and whether it may be used.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::{ClientLike as _, EventInterface as _};
use fred::types::Builder;
use fred::types::config::{Options, Server};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};

use super::connection::Connection;
use super::discovery::Found;
use super::health::{RETRY_INTERVAL, check_master, info_field, stay_connected};
use super::server_time::ServerTime;
use super::settings::{Settings, at, resident};

/// Why a server must not be used before its first examination.
pub(super) const NOT_EXAMINED: &str = "not examined yet";

/// How often each connection is asked whether it still leads to a master.
const ROLE_INTERVAL: Duration = Duration::from_secs(1);

/// A server and the connections to it. All calls on one key use one connection, as long as that is open.
#[derive(Debug)]
pub(super) struct Node {
    /// None for the one server of the configuration.
    pub(super) server: Option<Server>,
    pub(super) connections: Vec<Connection>,
    /// Why it must not be used although it answers; none after an examination found it usable.
    unusable: watch::Sender<Option<String>>,
    pub(super) time: ServerTime,
}

/// Why a node takes no call.
pub(super) struct Refusal {
    pub(super) reason: Cow<'static, str>,
    /// Whether the reason has log lines of its own.
    pub(super) is_logged: bool,
}

impl Node {
    /// Opens the connections. The tasks keep them open and examine the server; the connections close when these are dropped.
    /// `usable` changes each time that the server was connected anew and found usable.
    pub(super) fn start(
        server: Option<Server>,
        builder: &Builder,
        settings: &Settings,
        found: &Found,
        usable: &watch::Sender<u64>,
    ) -> Result<(Arc<Self>, Vec<AbortOnDropHandle<()>>), FredError> {
        let builder = server
            .as_ref()
            .map_or_else(|| builder.clone(), |server| at(builder, server));
        let builder = resident(&builder);
        let clients: Vec<Client> = (0..settings.pool.max(1))
            .map(|_| builder.build())
            .collect::<Result<_, _>>()?;
        let reconnected = Arc::new(Notify::new());
        let node = Arc::new(Self {
            server,
            connections: clients.into_iter().map(Connection::new).collect(),
            unusable: watch::Sender::new(Some(NOT_EXAMINED.into())),
            time: ServerTime::default(),
        });
        let mut tasks = Vec::new();
        for (index, Connection { client, .. }) in node.connections.iter().enumerate() {
            let (mut events, notify) = (client.reconnect_rx(), Arc::clone(&reconnected));
            let node = Arc::clone(&node);
            tasks.push(tokio::spawn(async move {
                while !matches!(
                    events.recv().await,
                    Err(tokio::sync::broadcast::error::RecvError::Closed)
                ) {
                    // The server has answered on the new connection.
                    node.connections[index].breaker.record_answer();
                    notify.notify_one();
                }
            }));
            tasks.push(tokio::spawn(stay_connected(client.clone())));
        }
        let watching = Watching {
            node: Arc::clone(&node),
            prefix: settings.prefix.clone(),
            is_clustered: settings.is_clustered(),
            timeout: settings.connect_timeout(),
            found: found.clone(),
            usable: usable.clone(),
        };
        tasks.push(tokio::spawn(watching.run(reconnected)));
        Ok((node, tasks.into_iter().map(AbortOnDropHandle::new).collect()))
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> String {
        super::health::name(self.server.as_ref())
    }

    pub(super) fn is_usable(&self) -> bool {
        self.unusable.borrow().is_none()
    }

    /// An open connection.
    pub(super) fn open(&self) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.client.is_connected())
    }

    /// Admits one call to connection `preferred`, or to the next one that takes it; returns its index.
    pub(super) fn admit(&self, preferred: usize, now: Duration) -> Result<(usize, OwnedSemaphorePermit), Refusal> {
        if let Some(unusable) = self.unusable.borrow().as_ref() {
            return Err(Refusal {
                is_logged: unusable != NOT_EXAMINED,
                reason: Cow::Owned(unusable.clone()),
            });
        }
        let mut reason = "no connection";
        let count = self.connections.len();
        for index in (preferred..preferred + count).map(|n| n % count) {
            match self.connections[index].admit(now) {
                Ok(permit) => return Ok((index, permit)),
                Err(refused) => reason = refused,
            }
        }
        Err(Refusal {
            reason: Cow::Borrowed(reason),
            is_logged: false,
        })
    }

    /// Takes no more calls: the deployment has another master now.
    pub(super) fn retire(&self) {
        self.unusable.send_replace(Some(NOT_EXAMINED.into()));
    }
}

/// The task that examines a node.
struct Watching {
    node: Arc<Node>,
    prefix: String,
    is_clustered: bool,
    timeout: Duration,
    found: Found,
    usable: watch::Sender<u64>,
}

impl Watching {
    /// Examines the node whenever a connection was made or leads to a replica, and then every second until it is usable.
    async fn run(self, reconnected: Arc<Notify>) {
        loop {
            tokio::select! {
                () = reconnected.notified() => {}
                () = tokio::time::sleep(ROLE_INTERVAL) => if !self.was_demoted().await { continue },
            }
            while !self.is_usable().await {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            self.usable.send_modify(|count| *count += 1);
        }
    }

    /// Whether an open connection leads to a replica. Calls then fail until an examination finds a master.
    async fn was_demoted(&self) -> bool {
        for Connection { client, .. } in &self.node.connections {
            if client.is_connected() && self.leads_to_replica(client).await {
                let reason = format!("{} is a replica", self.node.name());
                self.node.unusable.send_replace(Some(reason));
                return true;
            }
        }
        false
    }

    async fn leads_to_replica(&self, client: &Client) -> bool {
        let client = client.with_options(&Options {
            max_attempts: Some(1),
            timeout: Some(self.timeout),
            fail_fast: true,
            ..Options::default()
        });
        let section = fred::types::InfoKind::Replication;
        let info: Result<String, FredError> = client.info(Some(section)).await;
        info.is_ok_and(|info| info_field(&info, "role") == Some("slave"))
    }

    async fn is_usable(&self) -> bool {
        let node = &self.node;
        let Some(connection) = node.open().or(node.connections.first()) else {
            return false;
        };
        let checks = check_master(
            &connection.client,
            node.server.as_ref(),
            &self.prefix,
            self.is_clustered,
            self.timeout,
        );
        let Ok(checks) = checks.await else { return false };
        if checks.unavailable.is_some() {
            // The masters may have changed; behind one address, a new connection may lead to another server.
            self.found.ask_again();
            for Connection { client, .. } in &node.connections {
                if node.server.is_none() && client.is_connected() {
                    let _ = tokio::time::timeout(self.timeout, client.force_reconnection()).await;
                }
            }
        }
        let unusable = checks.unusable.or(checks.unavailable);
        // Its own breaker only: another connection may be silent although this one is answered.
        connection.breaker.record_answer();
        match (node.unusable.send_replace(unusable.clone()), unusable.clone()) {
            (before, Some(reason)) if before.as_ref() != Some(&reason) => {
                error!(%reason, "Redis must not be used; it is checked again every second");
            }
            (Some(before), None) if before != NOT_EXAMINED => info!("{} is usable again", node.name()),
            (before, after) => debug!(?before, ?after, "examined {}", node.name()),
        }
        unusable.is_none()
    }
}
