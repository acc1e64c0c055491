//! Runs scripts on Redis. With `stream_reader` and `health`, this is the only code that knows the client library.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fred::error::Error as FredError;
use fred::interfaces::ClientLike as _;
use fred::types::config::Server;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug};

use super::connection::Connection;
use super::discovery::Found;
use super::failure::{is_answer, to_store_error, was_redirected};
use super::node::Node;
use super::reply::Reply;
use super::script::{Args, Script};
use super::settings::Settings;
use super::topology::Topology;
use crate::clock::{Clock, UnixMillis};
use crate::model::{Error, ErrorKind, Result};
use crate::spans::SPANS;
use crate::store::outage::OutageLog;

/// The pause before a call that a cluster redirected is tried again within its timeout, times the number of tries: while a slot moves,
/// neither master serves it for a moment.
const REDIRECTION_PAUSE: Duration = Duration::from_millis(10);

/// The longest such pause.
const LONGEST_REDIRECTION_PAUSE: Duration = Duration::from_millis(50);

/// With less time left a call is not tried again. To fred, no time is no timeout.
const SHORTEST_TRY: Duration = Duration::from_millis(20);

/// The tasks of the node of a server.
type NodeTasks = (Option<Server>, Vec<AbortOnDropHandle<()>>);

/// The connections to one deployment of Redis: to each master its own, so that a master that is dead or silent delays no call to
/// another one.
#[derive(Debug)]
pub(super) struct RedisClient {
    settings: Settings,
    /// Builds connections to the masters.
    builder: Builder,
    clock: Arc<dyn Clock>,
    pub(super) found: Found,
    routes: RwLock<Arc<Routes>>,
    /// The tasks of each node. Dropping them closes its connections.
    tasks: Mutex<Vec<NodeTasks>>,
    /// How often a master was connected anew and then found usable.
    reconnections: watch::Sender<u64>,
    pub(super) outage: OutageLog,
}

/// The masters, and which slots they serve.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) nodes: Vec<Arc<Node>>,
    /// First and last slot of a range, and the index of its master; in the order of the slots.
    ranges: Vec<(u16, u16, usize)>,
}

impl Routes {
    fn node(&self, slot: u16) -> Option<&Arc<Node>> {
        let after = self.ranges.partition_point(|(first, _, _)| *first <= slot);
        let (_, last, index) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then(|| self.nodes.get(*index))?
    }

    /// Whether the master with this index serves the slot of the key.
    pub(super) fn owns(&self, node: &Arc<Node>, key: &str) -> bool {
        let owner = self.node(fred::util::redis_keyslot(key.as_bytes()));
        owner.is_some_and(|owner| Arc::ptr_eq(owner, node))
    }
}

/// One call.
struct Call {
    script: &'static Script,
    slot: u16,
    keys: Vec<String>,
    args: Vec<Bytes>,
}

/// A call that a connection has taken.
struct Admitted {
    node: Arc<Node>,
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl RedisClient {
    pub(super) fn new(
        settings: Settings,
        builder: Builder,
        clock: Arc<dyn Clock>,
        found: Found,
        outage: OutageLog,
    ) -> Self {
        Self {
            settings,
            builder,
            clock,
            found,
            routes: RwLock::default(),
            tasks: Mutex::default(),
            reconnections: watch::Sender::new(0),
            outage,
        }
    }

    /// Keeps the connections in line with the masters that are found.
    pub(super) fn follow(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let (mut topology, client) = (self.found.topology.clone(), Arc::downgrade(self));
        let found = topology.borrow_and_update().clone();
        if let Some(found) = found {
            self.adopt(&found);
        }
        AbortOnDropHandle::new(tokio::spawn(async move {
            while topology.changed().await.is_ok() {
                let found = topology.borrow_and_update().clone();
                let Some(client) = client.upgrade() else { return };
                if let Some(found) = found {
                    client.adopt(&found);
                }
            }
        }))
    }

    /// Connects to new masters, and closes the connections to those that are none any more: no call is made to them from now
    /// on.
    fn adopt(&self, topology: &Topology) {
        let mut tasks = self.tasks.lock();
        let before = Arc::clone(&self.routes.read());
        let mut routes = Routes::default();
        for master in &topology.masters {
            let known = before.nodes.iter().find(|node| node.server == master.server);
            let node = if let Some(node) = known {
                Arc::clone(node)
            } else {
                let (server, usable) = (master.server.clone(), &self.reconnections);
                match Node::start(server, &self.builder, &self.settings, &self.found, usable) {
                    Ok((node, started)) => {
                        tasks.push((master.server.clone(), started));
                        node
                    }
                    // The settings were used before; nothing in them depends on the server.
                    Err(error) => {
                        debug!(%error, "cannot connect to a master of Redis");
                        continue;
                    }
                }
            };
            let index = routes.nodes.len();
            routes.nodes.push(node);
            let ranges = master.slots.iter().map(|(first, last)| (*first, *last, index));
            routes.ranges.extend(ranges);
        }
        routes.ranges.sort_unstable();
        let is_gone = |server: &Option<Server>| !topology.masters.iter().any(|master| master.server == *server);
        *self.routes.write() = Arc::new(routes);
        for node in &before.nodes {
            if is_gone(&node.server) {
                node.retire();
            }
        }
        tasks.retain(|(server, _)| !is_gone(server));
    }

    /// The masters, by the latest known map of the slots. Empty until one has been found.
    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read())
    }

    /// The number of connections, and how many of them are open.
    pub(super) fn connection_counts(&self) -> (usize, usize) {
        let routes = self.routes();
        let connections = || routes.nodes.iter().flat_map(|node| &node.connections);
        let open = connections().filter(|connection| connection.client.is_connected());
        (connections().count(), open.count())
    }

    pub(super) fn reconnections(&self) -> watch::Receiver<u64> {
        self.reconnections.subscribe()
    }

    /// Waits until every master was examined and found usable.
    pub(super) async fn wait_until_usable(&self) {
        let mut changes = self.reconnections.subscribe();
        loop {
            let routes = self.routes();
            if !routes.nodes.is_empty() && routes.nodes.iter().all(|node| node.is_usable()) {
                return;
            }
            let _ = changes.changed().await;
        }
    }

    /// Runs a script on one key, or on keys of one slot. It runs once: it is repeated only where Redis says that it did not run.
    ///
    /// If the caller goes away, the call continues to its end, so that the breaker learns that Redis is silent even
    /// where every caller gives up before the timeout.
    pub(super) async fn run(self: &Arc<Self>, script: &'static Script, keys: Vec<String>, args: Args) -> Result<Reply> {
        self.run_once(script, keys, args)
            .await
            .map_err(|error| self.count_failure(error))
    }

    /// Counts a failure of Redis: the outage has its own lines.
    fn count_failure(&self, error: Error) -> Error {
        // A Redis that must not be used has lines of its own.
        if !matches!(error.kind, ErrorKind::StoreUnavailable | ErrorKind::StoreFull) || error.is_logged {
            return error;
        }
        self.outage.failed(error.cause_text());
        error.already_logged()
    }

    async fn run_once(self: &Arc<Self>, script: &'static Script, keys: Vec<String>, args: Args) -> Result<Reply> {
        let args = args.for_script(script);
        let slot = keys.first().map_or(0, |key| fred::util::redis_keyslot(key.as_bytes()));
        let call = Call {
            script,
            slot,
            keys,
            args,
        };
        let admitted = self.admit(slot)?;
        let client = Arc::clone(self);
        let span = tracing::info_span!(target: SPANS, "redis", otel.kind = "client",
            db.system.name = "redis", db.operation.name = script.name);
        self.complete(async move { client.call(admitted, &call).await }.instrument(span))
            .await
    }

    /// This moment, for [`RedisClient::note_time`].
    pub(super) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Notes that the master of this key answered the time `now` to a call that was sent at `sent`.
    pub(super) fn note_time(&self, key: &str, now: UnixMillis, sent: Duration) {
        if let Some(node) = self.routes().node(fred::util::redis_keyslot(key.as_bytes())) {
            node.time.note(now, sent);
        }
    }

    /// The latest time that the clock of the master of this key may show now; none if it is not known.
    pub(super) fn latest_time(&self, key: &str) -> Option<UnixMillis> {
        let routes = self.routes();
        let node = routes.node(fred::util::redis_keyslot(key.as_bytes()))?;
        node.time.latest_at(self.clock.monotonic())
    }

    /// Sends PING to every master.
    pub(super) async fn ping(self: &Arc<Self>) -> Result<()> {
        self.ping_uncounted().await.map_err(|error| self.count_failure(error))
    }

    /// Like [`RedisClient::ping`]; a failure is not counted, and does not cause the outage to be looked at.
    pub(super) async fn ping_uncounted(self: &Arc<Self>) -> Result<()> {
        let routes = self.routes();
        if routes.nodes.is_empty() {
            return Err(no_master());
        }
        let pings = routes.nodes.iter().map(|node| {
            let admitted = self.admit_at(node, 0);
            let client = Arc::clone(self);
            async move {
                let admitted = admitted?;
                let ping = async move {
                    let connection = &admitted.node.connections[admitted.index];
                    let options = Connection::call_options(client.settings.timeout);
                    let result = connection.client.with_options(&options).ping::<Value>(None).await;
                    client.record(&admitted, result.as_ref().err());
                    result.map(Reply).map_err(|error| to_store_error(&error))
                };
                self.complete(ping).await.map(drop)
            }
        });
        futures_util::future::try_join_all(pings).await.map(drop)
    }

    /// A connection to the master of this slot.
    ///
    /// All calls on one key use one connection, so that they run in the order in which they were made: a refresh whose caller
    /// gave up must not be overtaken by the refreshes that follow it.
    fn admit(&self, slot: u16) -> Result<Admitted> {
        let routes = self.routes();
        let node = routes.node(slot).ok_or_else(no_master)?;
        self.admit_at(node, slot)
    }

    fn admit_at(&self, node: &Arc<Node>, slot: u16) -> Result<Admitted> {
        match node.admit(usize::from(slot), self.clock.monotonic()) {
            Ok((index, permit)) => {
                let node = Arc::clone(node);
                Ok(Admitted {
                    node,
                    index,
                    _permit: permit,
                })
            }
            Err(refusal) => {
                let error = Error::store_unavailable(format!("{}: {}", node.name(), refusal.reason));
                Err(if refusal.is_logged {
                    error.already_logged()
                } else {
                    error
                })
            }
        }
    }

    /// Drives a call to its end, even if the caller goes away.
    async fn complete(&self, call: impl Future<Output = Result<Reply>> + Send + 'static) -> Result<Reply> {
        let mut call = Box::pin(call);
        // The first poll sends the call before this function yields: calls leave in the order in which they were made.
        match futures_util::poll!(&mut call) {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::spawn(call).await.map_err(Error::internal)?,
        }
    }

    fn record(&self, admitted: &Admitted, error: Option<&FredError>) {
        let breaker = &admitted.node.connections[admitted.index].breaker;
        match error {
            Some(error) if !is_answer(error) => {
                if breaker.record_no_answer(self.clock.monotonic()) {
                    debug!(%error, "Redis does not answer on a connection; calls on it fail at once until it does");
                }
            }
            Some(_) | None => breaker.record_answer(),
        }
    }

    async fn call(&self, mut admitted: Admitted, call: &Call) -> Result<Reply> {
        let deadline = Instant::now() + self.settings.timeout;
        let (mut left, mut tries) = (self.settings.timeout, 0);
        loop {
            let result = send(&admitted, call, left).await;
            self.record(&admitted, result.as_ref().err());
            let error = match result {
                Ok(reply) => return Ok(Reply(reply)),
                Err(error) if was_redirected(&error) => error,
                Err(error) => return Err(to_store_error(&error)),
            };
            // Nothing ran. By the time of the next try the map of the slots has been read again.
            self.found.ask_again();
            drop(admitted);
            tries += 1;
            tokio::time::sleep((REDIRECTION_PAUSE * tries).min(LONGEST_REDIRECTION_PAUSE)).await;
            left = deadline.saturating_duration_since(Instant::now());
            if left < SHORTEST_TRY {
                return Err(to_store_error(&error));
            }
            admitted = self.admit(call.slot)?;
        }
    }
}

/// Sends a script by its SHA, or as text if the server does not know it.
async fn send(admitted: &Admitted, call: &Call, timeout: Duration) -> Result<Value, FredError> {
    let client = admitted.node.connections[admitted.index]
        .client
        .with_options(&Connection::call_options(timeout));
    let count = i64::try_from(call.keys.len()).unwrap_or(i64::MAX);
    // As custom commands: fred's own functions for scripts ignore the options.
    let send = |command, name: &'static str| {
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        let args = [name.into(), count.into()]
            .into_iter()
            .chain(call.keys.iter().map(|key| key.as_str().into()))
            .chain(call.args.iter().cloned().map(Value::Bytes));
        // Boxed: this future has several kilobytes, which every future that waits for it would contain.
        Box::pin(client.custom(command, args.collect::<Vec<Value>>()))
    };
    match send("EVALSHA", &call.script.sha).await {
        Err(error) if error.details().starts_with("NOSCRIPT") => send("EVAL", &call.script.source).await,
        result => result,
    }
}

fn no_master() -> Error {
    Error::store_unavailable("Redis: no master is known")
}
