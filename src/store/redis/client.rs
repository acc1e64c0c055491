//! Runs scripts on Redis. With `stream_reader` and `health`, this is the only code that knows the client library.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, Pool};
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike as _, ClusterInterface as _};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tracing::{Instrument as _, debug};

use super::connection::Connection;
use super::reply::Reply;
use super::script::{Args, Script};
use crate::clock::Clock;
use crate::model::{Error, ErrorKind, Result};
use crate::spans::SPANS;
use crate::store::outage::OutageLog;

/// How often a call that a cluster redirected is tried again within its timeout.
const MAX_REDIRECTIONS: u32 = 5;

/// The pause before such a retry, times the number of tries: while a slot moves, neither master serves it for a moment.
const REDIRECTION_PAUSE: Duration = Duration::from_millis(10);

/// The connections to one deployment of Redis, and whether it may be used.
#[derive(Debug)]
pub(super) struct RedisClient {
    connections: Vec<Connection>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Why Redis must not be used although it answers; none after an examination found it usable.
    unusable: watch::Sender<Option<String>>,
    /// How often connections were made and Redis was then found usable.
    reconnections: watch::Sender<u64>,
    pub(super) outage: OutageLog,
}

/// Why Redis must not be used before the first examination.
pub(super) const NOT_EXAMINED: &str = "not examined yet";

/// One master of the deployment.
#[derive(Debug)]
pub(super) struct MasterNode {
    /// None where there is only one master.
    pub(super) server: Option<Server>,
    slots: Vec<(u16, u16)>,
}

impl MasterNode {
    /// Whether this master owns the slot of the key.
    pub(super) fn owns(&self, key: &str) -> bool {
        let slot = fred::util::redis_keyslot(key.as_bytes());
        self.server.is_none() || self.slots.iter().any(|(start, end)| (*start..=*end).contains(&slot))
    }
}

impl RedisClient {
    pub(super) fn new(pool: &Pool, timeout: Duration, clock: Arc<dyn Clock>, outage: OutageLog) -> Self {
        Self {
            connections: pool.clients().iter().cloned().map(Connection::new).collect(),
            timeout,
            clock,
            unusable: watch::Sender::new(Some(NOT_EXAMINED.into())),
            reconnections: watch::Sender::new(0),
            outage,
        }
    }

    /// The number of connections, and how many of them are open.
    pub(super) fn connection_counts(&self) -> (usize, usize) {
        let open = self.clients().filter(|client| client.is_connected()).count();
        (self.connections.len(), open)
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.connections.iter().map(|connection| &connection.client)
    }

    /// Records the result of an examination, which Redis has just answered: why it must not be used, or none. Returns the
    /// result before it.
    pub(super) fn set_unusable(&self, reason: Option<String>) -> Option<String> {
        for connection in &self.connections {
            connection.breaker.record_answer();
        }
        self.unusable.send_replace(reason)
    }

    /// Tells the subscribers of [`Self::reconnections`] that connections were made and Redis was found usable.
    pub(super) fn notify_reconnected(&self) {
        self.reconnections.send_modify(|count| *count += 1);
    }

    pub(super) fn reconnections(&self) -> watch::Receiver<u64> {
        self.reconnections.subscribe()
    }

    /// Waits until an examination finds Redis usable.
    pub(super) async fn wait_until_usable(&self) {
        let _ = self.unusable.subscribe().wait_for(Option::is_none).await;
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
        if !matches!(error.kind, ErrorKind::StoreUnavailable | ErrorKind::StoreFull) {
            return error;
        }
        // A Redis that must not be used has lines of its own.
        if self
            .unusable
            .borrow()
            .as_deref()
            .is_none_or(|reason| reason == NOT_EXAMINED)
        {
            self.outage.failed(error.cause_text());
        }
        error.already_logged()
    }

    async fn run_once(self: &Arc<Self>, script: &'static Script, keys: Vec<String>, args: Args) -> Result<Reply> {
        let args = args.for_script(script);
        let slot = keys.first().map_or(0, |key| fred::util::redis_keyslot(key.as_bytes()));
        // All calls on one key use one connection, so that they run in the order in which they were made: a refresh
        // whose caller gave up must not be overtaken by the refreshes that follow it.
        let preferred = usize::from(slot);
        let (index, permit) = self.pick_connection(preferred)?;
        let client = Arc::clone(self);
        let span = tracing::info_span!(target: SPANS, "redis", otel.kind = "client",
            db.system.name = "redis", db.operation.name = script.name);
        let call = async move { client.call(index, script, slot, &keys, &args).await }.instrument(span);
        self.complete(index, permit, call).await
    }

    /// Sends PING to every master.
    pub(super) async fn ping(self: &Arc<Self>) -> Result<()> {
        self.ping_uncounted().await.map_err(|error| self.count_failure(error))
    }

    /// Like [`RedisClient::ping`]; a failure is not counted, and does not cause the outage to be looked at.
    pub(super) async fn ping_uncounted(self: &Arc<Self>) -> Result<()> {
        let (index, permit) = self.pick_connection(0)?;
        let client = Arc::clone(self);
        let call = async move {
            for master in client.masters() {
                let mut options = Connection::call_options(client.timeout);
                options.cluster_node = master.server;
                let node = client.connections[index].client.with_options(&options);
                node.ping::<Value>(None).await?;
            }
            Ok(Reply(Value::Null))
        };
        self.complete(index, permit, call).await.map(drop)
    }

    /// The masters, by the latest known map of the slots. Empty until a cluster has been reached.
    pub(super) fn masters(&self) -> Vec<MasterNode> {
        let Some(client) = self.clients().find(|client| client.is_connected()) else {
            return Vec::new();
        };
        let Some(routing) = client.cached_cluster_state() else {
            let slots = Vec::new();
            return vec![MasterNode { server: None, slots }];
        };
        let master = |server: Server| MasterNode {
            slots: routing
                .slots()
                .iter()
                .filter(|range| range.primary == server)
                .map(|range| (range.start, range.end))
                .collect(),
            server: Some(server),
        };
        routing.unique_primary_nodes().into_iter().map(master).collect()
    }

    /// The index of connection `preferred`, or of the next one that admits a call, with the permit for that call.
    fn pick_connection(&self, preferred: usize) -> Result<(usize, OwnedSemaphorePermit)> {
        let mut reason = Cow::Borrowed("no connection");
        if let Some(unusable) = self.unusable.borrow().as_ref() {
            reason = Cow::Owned(unusable.clone());
        } else {
            let now = self.clock.monotonic();
            let count = self.connections.len();
            for index in (preferred..preferred + count).map(|n| n % count) {
                match self.connections[index].admit(now) {
                    Ok(permit) => return Ok((index, permit)),
                    Err(refused) => reason = Cow::Borrowed(refused),
                }
            }
        }
        Err(Error::store_unavailable(format!("Redis: {reason}")))
    }

    /// Drives a call to its end, even if the caller goes away.
    async fn complete(
        self: &Arc<Self>,
        index: usize,
        permit: OwnedSemaphorePermit,
        call: impl Future<Output = Result<Reply, FredError>> + Send + 'static,
    ) -> Result<Reply> {
        let client = Arc::clone(self);
        let mut call = Box::pin(async move {
            let result = call.await;
            client.record(index, &result);
            drop(permit);
            result
        });
        // The first poll sends the call before this function yields: calls leave in the order in which they were made.
        let result = match futures_util::poll!(&mut call) {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::spawn(call).await.map_err(Error::internal)?,
        };
        result.map_err(|error| to_store_error(&error))
    }

    fn record(&self, index: usize, result: &Result<Reply, FredError>) {
        let breaker = &self.connections[index].breaker;
        match result {
            Err(error) if !is_answer(error) => {
                if breaker.record_no_answer(self.clock.monotonic()) {
                    debug!(%error, "Redis does not answer on a connection; calls on it fail at once until it does");
                }
            }
            Ok(_) | Err(_) => breaker.record_answer(),
        }
    }

    async fn call(
        &self,
        index: usize,
        script: &'static Script,
        slot: u16,
        keys: &[String],
        args: &[Bytes],
    ) -> Result<Reply, FredError> {
        let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let deadline = Instant::now() + self.timeout;
        let mut tries = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.connections[index]
                .client
                .with_options(&Connection::call_options(left));
            // As custom commands: fred's own functions for scripts ignore the options.
            let send = |command, name: &'static str| {
                let command = CustomCommand::new_static(command, ClusterHash::Custom(slot), false);
                let args = [name.into(), count.into()]
                    .into_iter()
                    .chain(keys.iter().map(|key| key.as_str().into()))
                    .chain(args.iter().cloned().map(Value::Bytes));
                // Boxed: this future has several kilobytes, which every future that waits for it would contain.
                Box::pin(client.custom(command, args.collect::<Vec<Value>>()))
            };
            let mut result = send("EVALSHA", &script.sha).await;
            if matches!(&result, Err(error) if error.details().starts_with("NOSCRIPT")) {
                result = send("EVAL", &script.source).await;
            }
            tries += 1;
            let pause = REDIRECTION_PAUSE * tries;
            match result {
                Err(error) if was_redirected(&error) && tries <= MAX_REDIRECTIONS && left > pause => {
                    tokio::time::sleep(pause).await;
                }
                result => return result.map(Reply),
            }
        }
    }
}

/// Whether a cluster answered MOVED or ASK: nothing ran, and by now fred has read the new map of the slots.
fn was_redirected(error: &FredError) -> bool {
    *error.kind() == FredKind::Routing && error.details() == "Too many redirections."
}

/// Whether Redis itself sent this error. Any other error means that no answer arrived.
fn is_answer(error: &FredError) -> bool {
    was_redirected(error)
        || error
            .details()
            .split(' ')
            .next()
            .is_some_and(|word| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase()))
}

/// The error of a failed call. The text of Redis goes to the log only.
pub(super) fn to_store_error(error: &FredError) -> Error {
    let details = error.details();
    match details.split(' ').next().unwrap_or_default() {
        "OOM" => Error::from(ErrorKind::StoreFull).because(format!("Redis: {details}")),
        // A defect of Countersign: a script that fails, a key of another type, an invalid argument.
        "ERR" | "WRONGTYPE" => Error::internal(format!("Redis: {details}")),
        _ => Error::store_unavailable(format!("Redis: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_redis_error_maps_to_the_kind_that_tells_the_caller_what_to_do() {
        for (details, kind) in [
            ("OOM allow-oom flag is not set on the script", ErrorKind::StoreFull),
            (
                "READONLY You can't write against a read only replica.",
                ErrorKind::StoreUnavailable,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                ErrorKind::StoreUnavailable,
            ),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::StoreUnavailable),
            ("BUSY Redis is busy running a script", ErrorKind::StoreUnavailable),
            ("CLUSTERDOWN The cluster is down", ErrorKind::StoreUnavailable),
            ("MISCONF Errors writing to the AOF file", ErrorKind::StoreUnavailable),
            ("NOAUTH Authentication required.", ErrorKind::StoreUnavailable),
            (
                "VERSION a session record of another version",
                ErrorKind::StoreUnavailable,
            ),
            ("ERR user_script:7: attempt to index nil", ErrorKind::Internal),
        ] {
            let error = FredError::new(FredKind::Unknown, details);
            let store_error = to_store_error(&error);
            assert_eq!(store_error.kind, kind, "{details}");
            assert!(!store_error.message.contains(' ') || !store_error.message.contains(details));
            assert!(is_answer(&error), "{details}");
        }
        for (kind, details) in [
            (FredKind::Timeout, "Request timed out."),
            (FredKind::IO, "Connection closed."),
            (FredKind::Canceled, "Connection closed unexpectedly."),
            (FredKind::Backpressure, "Max in-flight commands reached."),
            (FredKind::Unknown, "Too many failed write attempts."),
        ] {
            let error = FredError::new(kind, details);
            assert_eq!(to_store_error(&error).kind, ErrorKind::StoreUnavailable, "{details}");
            assert!(!is_answer(&error) && !was_redirected(&error), "{details}");
        }
    }
}
