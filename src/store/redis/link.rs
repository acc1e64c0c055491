//! Calls of scripts: the one road to Redis, and with `reader` and `watch` the only code that knows which client library
//! carries it.

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
use tracing::{Instrument as _, warn};

use super::lane::Lane;
use super::reply::Reply;
use super::script::Script;
use crate::clock::Clock;
use crate::model::{Error, ErrorKind, Result};
use crate::spans::SPANS;

/// How often a call that a cluster redirected is tried again within its timeout.
const REDIRECTIONS: u32 = 5;

/// Between such tries, times their number: a slot that moves is between its masters for a moment.
const REDIRECTION_PAUSE: Duration = Duration::from_millis(10);

/// The road to one deployment of Redis.
#[derive(Debug)]
pub(super) struct Link {
    lanes: Vec<Lane>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Why Redis must not be used though it answers; none once it was found fit.
    unfit: watch::Sender<Option<String>>,
    /// How often connections were made and Redis was found fit.
    reconnections: watch::Sender<u64>,
}

/// One master of the deployment.
#[derive(Debug)]
pub(super) struct Master {
    /// None where there is only one.
    server: Option<Server>,
    slots: Vec<(u16, u16)>,
}

impl Master {
    /// Whether the key lives there.
    pub(super) fn holds(&self, key: &str) -> bool {
        let slot = fred::util::redis_keyslot(key.as_bytes());
        self.server.is_none() || self.slots.iter().any(|(start, end)| (*start..=*end).contains(&slot))
    }
}

impl Link {
    pub(super) fn new(clients: &Pool, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            lanes: clients.clients().iter().cloned().map(Lane::new).collect(),
            timeout,
            clock,
            unfit: watch::Sender::new(Some("not examined yet".into())),
            reconnections: watch::Sender::new(0),
        }
    }

    /// How many connections there are, and how many of them are open.
    pub(super) fn connections(&self) -> (usize, usize) {
        (
            self.lanes.len(),
            self.clients().filter(|client| client.is_connected()).count(),
        )
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.lanes.iter().map(|lane| &lane.client)
    }

    /// Declares Redis, which just answered, unfit for use, or fit again. Answers whether that is news.
    pub(super) fn declare(&self, unfit: Option<String>) -> bool {
        self.lanes.iter().for_each(|lane| lane.breaker.answered());
        self.unfit.send_if_modified(|current| {
            let news = *current != unfit;
            *current = unfit;
            news
        })
    }

    /// Says that connections were made and Redis was found fit.
    pub(super) fn reconnected(&self) {
        self.reconnections.send_modify(|count| *count += 1);
    }

    pub(super) fn reconnections(&self) -> watch::Receiver<u64> {
        self.reconnections.subscribe()
    }

    /// Waits until Redis is declared fit for use.
    pub(super) async fn becomes_fit(&self) {
        let _ = self.unfit.subscribe().wait_for(Option::is_none).await;
    }

    /// Runs a script on one key. Once: it is repeated only where Redis says that it did not run.
    ///
    /// The call goes on to its end if its caller goes away, so that nobody's impatience hides that Redis is silent.
    pub(super) async fn run(self: &Arc<Self>, script: &'static Script, key: String, args: Vec<Bytes>) -> Result<Reply> {
        // All calls on one key go over one connection, so that they run in the order in which they were made: a
        // refresh whose caller gave up must not be overtaken by the refreshes that follow it.
        let own = usize::from(fred::util::redis_keyslot(key.as_bytes()));
        let (lane, room) = self.lane(own)?;
        let link = Arc::clone(self);
        let span = tracing::info_span!(target: SPANS, "redis", otel.kind = "client",
            db.system.name = "redis", db.operation.name = script.name);
        let call = async move { link.call(lane, script, &key, &args).await }.instrument(span);
        self.finish(lane, room, call).await
    }

    /// Asks every master for a sign of life.
    pub(super) async fn ping(self: &Arc<Self>) -> Result<()> {
        let (lane, room) = self.lane(0)?;
        let link = Arc::clone(self);
        let call = async move {
            for master in link.masters() {
                let mut options = Lane::options(link.timeout);
                options.cluster_node = master.server;
                let client = link.lanes[lane].client.with_options(&options);
                client.ping::<Value>(None).await?;
            }
            Ok(Reply::Nil)
        };
        self.finish(lane, room, call).await.map(drop)
    }

    /// The masters, as last heard. Empty while a cluster has not been reached.
    pub(super) fn masters(&self) -> Vec<Master> {
        let Some(client) = self.clients().find(|client| client.is_connected()) else {
            return Vec::new();
        };
        let Some(routing) = client.cached_cluster_state() else {
            let slots = Vec::new();
            return vec![Master { server: None, slots }];
        };
        let of = |server: Server| Master {
            slots: routing
                .slots()
                .iter()
                .filter(|range| range.primary == server)
                .map(|range| (range.start, range.end))
                .collect(),
            server: Some(server),
        };
        routing.unique_primary_nodes().into_iter().map(of).collect()
    }

    /// The lane `own`, or the next one that is open, and room in it for one call.
    fn lane(&self, own: usize) -> Result<(usize, OwnedSemaphorePermit)> {
        let mut why = Cow::Borrowed("no connection");
        if let Some(unfit) = self.unfit.borrow().as_ref() {
            why = Cow::Owned(unfit.clone());
        } else {
            let now = self.clock.monotonic();
            let count = self.lanes.len();
            for lane in (own..own + count).map(|n| n % count) {
                match self.lanes[lane].enter(now) {
                    Ok(room) => return Ok((lane, room)),
                    Err(reason) => why = Cow::Borrowed(reason),
                }
            }
        }
        Err(Error::store_unavailable(format!("Redis: {why}")))
    }

    /// Carries a call to its end, even if its caller goes away.
    async fn finish(
        self: &Arc<Self>,
        lane: usize,
        room: OwnedSemaphorePermit,
        call: impl Future<Output = Result<Reply, FredError>> + Send + 'static,
    ) -> Result<Reply> {
        let link = Arc::clone(self);
        let mut call = Box::pin(async move {
            let outcome = call.await;
            link.note(lane, &outcome);
            drop(room);
            outcome
        });
        // The first poll sends it, here and now: calls leave in the order in which they were made.
        let outcome = match futures_util::poll!(&mut call) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => tokio::spawn(call).await.map_err(Error::internal)?,
        };
        outcome.map_err(|error| explain(&error))
    }

    fn note(&self, lane: usize, outcome: &Result<Reply, FredError>) {
        let breaker = &self.lanes[lane].breaker;
        match outcome {
            Err(error) if !is_answer(error) => {
                if breaker.unanswered(self.clock.monotonic()) {
                    warn!(%error, "Redis does not answer on a connection: calls on it fail at once until it does");
                }
            }
            Ok(_) | Err(_) => breaker.answered(),
        }
    }

    async fn call(&self, lane: usize, script: &'static Script, key: &str, args: &[Bytes]) -> Result<Reply, FredError> {
        let slot = fred::util::redis_keyslot(key.as_bytes());
        let deadline = Instant::now() + self.timeout;
        let mut tries = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.lanes[lane].client.with_options(&Lane::options(left));
            // As custom commands: fred's own for scripts pass the options by.
            let send = |command, name: &'static str| {
                let command = CustomCommand::new_static(command, ClusterHash::Custom(slot), false);
                let args = [name.into(), 1.into(), key.into()]
                    .into_iter()
                    .chain(args.iter().cloned().map(Value::Bytes));
                // In a box: it has several kilobytes, which everything that waits for it would carry along.
                Box::pin(client.custom(command, args.collect::<Vec<Value>>()))
            };
            let mut outcome = send("EVALSHA", &script.sha).await;
            if matches!(&outcome, Err(error) if error.details().starts_with("NOSCRIPT")) {
                outcome = send("EVAL", &script.source).await;
            }
            tries += 1;
            let pause = REDIRECTION_PAUSE * tries;
            match outcome {
                Err(error) if was_redirected(&error) && tries <= REDIRECTIONS && left > pause => {
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome.map(|value: Value| Reply::from(value)),
            }
        }
    }
}

/// A cluster answered MOVED or ASK, so nothing ran; by now fred has read the new map of the slots.
fn was_redirected(error: &FredError) -> bool {
    *error.kind() == FredKind::Routing && error.details() == "Too many redirections."
}

/// Whether Redis itself said so, in whatever mood; otherwise nothing was heard of it.
fn is_answer(error: &FredError) -> bool {
    was_redirected(error)
        || error
            .details()
            .split(' ')
            .next()
            .is_some_and(|word| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase()))
}

/// What a failed call means to our caller. Redis' own words go to the log only.
pub(super) fn explain(error: &FredError) -> Error {
    let details = error.details();
    match details.split(' ').next().unwrap_or_default() {
        "OOM" => Error::from(ErrorKind::StoreFull).because(format!("Redis: {details}")),
        // A defect of ours: a script that fails, a key of another type, an argument that cannot be.
        "ERR" | "WRONGTYPE" => Error::internal(format!("Redis: {details}")),
        _ => Error::store_unavailable(format!("Redis: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_the_caller_can_do() {
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
            let explained = explain(&error);
            assert_eq!(explained.kind, kind, "{details}");
            assert!(!explained.message.contains(' ') || !explained.message.contains(details));
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
            assert_eq!(explain(&error).kind, ErrorKind::StoreUnavailable, "{details}");
            assert!(!is_answer(&error) && !was_redirected(&error), "{details}");
        }
    }
}
