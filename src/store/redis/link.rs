//! Calls of scripts: the one road to Redis, and with `reader` and `watch` the only code that knows which client library
//! carries it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, Pool};
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike as _, ClusterInterface as _, LuaInterface as _};
use fred::types::Value;
use fred::types::config::{Options, Server};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::warn;

use super::breaker::Breaker;
use super::reply::Reply;
use super::script::Script;
use super::settings::{IN_FLIGHT, Settings};
use crate::clock::Clock;
use crate::model::{Error, ErrorKind, Result};

/// How often a call that a cluster redirected is tried again within its timeout.
const REDIRECTIONS: u32 = 5;

/// Between such tries, times their number: a slot that moves is between its masters for a moment.
const REDIRECTION_PAUSE: Duration = Duration::from_millis(10);

/// The road to one deployment of Redis.
#[derive(Debug)]
pub(super) struct Link {
    pool: Pool,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    breaker: Breaker,
    gate: Arc<Semaphore>,
    /// Why Redis must not be used though it answers; none once it was found fit.
    unfit: watch::Sender<Option<String>>,
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
    pub(super) fn new(pool: Pool, settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            gate: Arc::new(Semaphore::new(IN_FLIGHT * pool.clients().len())),
            pool,
            timeout: settings.timeout,
            clock,
            breaker: Breaker::new(),
            unfit: watch::Sender::new(Some("not examined yet".into())),
        }
    }

    pub(super) fn clients(&self) -> &[Client] {
        self.pool.clients()
    }

    /// Declares Redis, which just answered, unfit for use, or fit again. Answers whether that is news.
    pub(super) fn declare(&self, unfit: Option<String>) -> bool {
        self.breaker.answered();
        self.unfit.send_if_modified(|current| {
            let news = *current != unfit;
            *current = unfit;
            news
        })
    }

    /// Waits until Redis is declared fit for use.
    pub(super) async fn becomes_fit(&self) {
        let _ = self.unfit.subscribe().wait_for(Option::is_none).await;
    }

    /// Runs a script on one key. Once: it is repeated only where Redis says that it did not run.
    ///
    /// The call goes on to its end if its caller goes away, so that nobody's impatience hides that Redis is silent.
    pub(super) async fn run(self: &Arc<Self>, script: &'static Script, key: String, args: Vec<Bytes>) -> Result<Reply> {
        let link = Arc::clone(self);
        self.guarded(async move { link.call(script, key, args).await }).await
    }

    /// Asks every master for a sign of life.
    pub(super) async fn ping(self: &Arc<Self>) -> Result<()> {
        let link = Arc::clone(self);
        self.guarded(async move {
            for master in link.masters() {
                let mut options = Self::options(link.timeout);
                options.cluster_node = master.server;
                link.client().with_options(&options).ping::<Value>(None).await?;
            }
            Ok(Reply::Nil)
        })
        .await
        .map(drop)
    }

    /// The masters, as last heard. Empty while a cluster has not been reached.
    pub(super) fn masters(&self) -> Vec<Master> {
        let client = self.client();
        if !client.is_clustered() {
            let slots = Vec::new();
            return vec![Master { server: None, slots }];
        }
        let Some(routing) = client.cached_cluster_state() else {
            return Vec::new();
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

    fn client(&self) -> &Client {
        self.pool.next_connected()
    }

    fn options(timeout: Duration) -> Options {
        Options {
            max_attempts: Some(1),
            timeout: Some(timeout),
            fail_fast: true,
            ..Options::default()
        }
    }

    async fn guarded(
        self: &Arc<Self>,
        call: impl Future<Output = Result<Reply, FredError>> + Send + 'static,
    ) -> Result<Reply> {
        if let Some(why) = self.unfit.borrow().as_ref() {
            return Err(Error::store_unavailable(format!("Redis: {why}")));
        }
        let Ok(permit) = Arc::clone(&self.gate).try_acquire_owned() else {
            return Err(Error::store_unavailable("Redis: too many calls are under way"));
        };
        if !self.breaker.admits(self.clock.monotonic()) {
            return Err(Error::store_unavailable("Redis: the circuit breaker is open"));
        }
        let link = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _permit = permit;
            let outcome = call.await;
            link.note(&outcome);
            outcome
        });
        task.await.map_err(Error::internal)?.map_err(|error| explain(&error))
    }

    fn note(&self, outcome: &Result<Reply, FredError>) {
        match outcome {
            Err(error) if !is_answer(error) => {
                if self.breaker.unanswered(self.clock.monotonic()) {
                    warn!(%error, "Redis does not answer: calls fail at once until it does");
                }
            }
            Ok(_) | Err(_) => self.breaker.answered(),
        }
    }

    async fn call(&self, script: &Script, key: String, args: Vec<Bytes>) -> Result<Reply, FredError> {
        let deadline = Instant::now() + self.timeout;
        let mut tries = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.client().with_options(&Self::options(left));
            let mut outcome = client.evalsha(script.sha.as_str(), key.as_str(), args.clone()).await;
            if matches!(&outcome, Err(error) if error.details().starts_with("NOSCRIPT")) {
                outcome = client.eval(script.source.as_str(), key.as_str(), args.clone()).await;
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
