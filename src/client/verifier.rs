//! Validating without a call: keys and revocations are followed, everything else is in the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tonic::Status;

use super::calls::Client;
use crate::clock::UnixMillis;
use crate::keys::cache::{Cache, Known};
use crate::keys::verify::{Policy, verify};
use crate::keys::verifying::VerifyingKeys;
use crate::model::InactiveReason;
use crate::proto::convert;
use crate::proto::{WatchRevocationsResponse, watch_revocations_response::Message};
use crate::revocation::{Index, judge};

/// How a verifier works.
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    /// `iss`, exactly: the service's `tokens.issuer`.
    pub issuer: String,
    /// How far clocks may differ; at most 5 s counts.
    pub leeway: Duration,
    /// The oldest knowledge of revocations that is answered from.
    pub max_staleness: Duration,
    /// The memory of the cache of verified tokens, in bytes.
    pub cache_bytes: u64,
}

impl VerifierConfig {
    /// The service's own defaults, for tokens of this issuer.
    #[must_use]
    pub fn new(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            leeway: Duration::from_secs(5),
            max_staleness: Duration::from_secs(30),
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why a token was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// The token is no good: this is an answer.
    Inactive(InactiveReason),
    /// It cannot be told: too little is known of revocations, and the service cannot be asked.
    Unavailable(Status),
}

/// Validates tokens from memory, revocations included. Cheap to clone; the last clone stops following.
#[derive(Clone, Debug)]
pub struct Verifier {
    shared: Arc<Shared>,
    _following: Arc<tokio_util::task::AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    config: VerifierConfig,
    policy: Policy,
    keys: RwLock<Arc<VerifyingKeys>>,
    ring: AtomicU64,
    index: RwLock<Arc<Index>>,
    fresh: watch::Sender<Option<Fresh>>,
    cache: Cache,
}

/// What the last heartbeat said.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    /// Its age when it came: the service's own, by the service's clocks.
    age: Duration,
    /// When it came, by both clocks: a suspended machine's monotonic clock may have stood still.
    came: Duration,
    came_wall: UnixMillis,
}

impl Verifier {
    /// A verifier that follows the service through `client`, which needs the scope `countersign:watch`. Answers nothing
    /// by itself before its first snapshot is complete; see [`Verifier::ready`].
    #[must_use]
    pub fn start(client: Client, config: VerifierConfig) -> Self {
        let shared = Arc::new(Shared {
            policy: Policy {
                issuer: config.issuer.clone(),
                leeway: config.leeway,
            },
            cache: Cache::new(config.cache_bytes),
            client,
            config,
            keys: RwLock::new(Arc::new(VerifyingKeys::default())),
            ring: AtomicU64::new(0),
            index: RwLock::default(),
            fresh: watch::channel(None).0,
        });
        let following = tokio::spawn(follow(shared.clone()));
        Self {
            shared,
            _following: Arc::new(tokio_util::task::AbortOnDropHandle::new(following)),
        }
    }

    /// Waits until the verifier can answer by itself.
    pub async fn ready(&self) {
        // The sender lives in the verifier, so the channel cannot close while we wait.
        drop(self.shared.fresh.subscribe().wait_for(Option::is_some).await);
    }

    /// How old the knowledge of revocations is; none before the first snapshot.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        self.shared.staleness()
    }

    /// Whether `token` is good, for this audience (empty: not checked), with all of these scopes: the answer that
    /// `Validate` gives. Answered from memory; while that is too old, the service is asked.
    pub async fn verify(&self, token: &str, audience: &str, scopes: &[String]) -> Result<Arc<Known>, Refused> {
        match self.verify_local(token, audience, scopes) {
            Some(verdict) => verdict.map_err(Refused::Inactive),
            None => self.verify_remote(token, audience, scopes).await,
        }
    }

    /// As [`Verifier::verify`], from memory alone; none while that is too old.
    #[must_use]
    pub fn verify_local(
        &self,
        token: &str,
        audience: &str,
        scopes: &[String],
    ) -> Option<Result<Arc<Known>, InactiveReason>> {
        let shared = &*self.shared;
        if shared.staleness()? > shared.config.max_staleness {
            return None;
        }
        let verdict = shared.known(token).and_then(|known| {
            judge(
                &known,
                &shared.index.read(),
                shared.client.clock().now(),
                audience,
                scopes,
            )?;
            Ok(known)
        });
        Some(verdict)
    }

    async fn verify_remote(&self, token: &str, audience: &str, scopes: &[String]) -> Result<Arc<Known>, Refused> {
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let answer = self
            .shared
            .client
            .validate(token, audience, &scopes)
            .await
            .map_err(Refused::Unavailable)?;
        if !answer.active {
            return Err(match convert::reason::inactive(answer.reason()) {
                Some(reason) => Refused::Inactive(reason),
                None => Refused::Unavailable(Status::internal("a reason that this version does not know")),
            });
        }
        // The service has judged it; what it says is read from the token itself.
        self.shared.known(token).map_err(Refused::Inactive)
    }
}

impl Shared {
    fn staleness(&self) -> Option<Duration> {
        let fresh = (*self.fresh.borrow())?;
        let clock = self.client.clock();
        let since = clock
            .monotonic()
            .saturating_sub(fresh.came)
            .max(clock.now().since(fresh.came_wall));
        Some(fresh.age + since)
    }

    fn known(&self, token: &str) -> Result<Arc<Known>, InactiveReason> {
        let ring = self.ring.load(Ordering::Acquire);
        if let Some(known) = self.cache.get(token, ring) {
            return Ok(known);
        }
        let keys = self.keys.read().clone();
        let verified = verify(token, &keys, &self.policy, self.client.clock().now())?;
        let known = Arc::new(Known::new(verified, ring, self.config.leeway));
        self.cache.put(token, &known);
        Ok(known)
    }
}

/// Follows the feed for ever: reconnects where it broke off, with a pause that grows.
async fn follow(shared: Arc<Shared>) {
    let mut resume = String::new();
    let mut pause = Duration::from_millis(50);
    loop {
        let followed = follow_once(&shared, &mut resume).await;
        match followed {
            Ok(()) => pause = Duration::from_millis(50),
            Err(status) => {
                tracing::debug!(code = ?status.code(), "the feed of revocations broke off");
                if status.code() == tonic::Code::InvalidArgument {
                    resume.clear();
                }
            }
        }
        let unit = f64::from(crate::secret::random::<1>(shared.client.entropy())[0]) / 255.0;
        tokio::time::sleep(pause.mul_f64(0.5 + unit / 2.0)).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn follow_once(shared: &Shared, resume: &mut String) -> Result<(), Status> {
    let mut stream = shared.client.watch(resume.clone()).await?;
    let mut building: Option<Index> = None;
    // A heartbeat comes each second: a stream that is silent much longer is a connection that nobody told us is dead.
    let silence = Duration::from_secs(10);
    loop {
        let next = tokio::time::timeout(silence, stream.message()).await;
        let Some(WatchRevocationsResponse { message }) =
            next.map_err(|_| Status::unavailable("the feed fell silent"))??
        else {
            return Ok(());
        };
        match message {
            Some(Message::Keys(keys)) => match VerifyingKeys::from_jwks(&keys.jwks_json) {
                Ok(keys) => {
                    *shared.keys.write() = Arc::new(keys);
                    shared.ring.fetch_add(1, Ordering::AcqRel);
                }
                Err(error) => tracing::warn!(%error, "the service's key set cannot be read"),
            },
            Some(Message::Snapshot(part)) => {
                let index = building.get_or_insert_with(Index::new);
                for revocation in part
                    .revocations
                    .iter()
                    .filter_map(|row| convert::revocation::revocation(row).ok())
                {
                    index.insert(&revocation);
                }
                if part.last {
                    *shared.index.write() = Arc::new(building.take().unwrap_or_default());
                }
            }
            Some(Message::Event(event)) => {
                if let Ok(revocation) = convert::revocation::revocation(&event) {
                    shared.index.read().insert(&revocation);
                }
            }
            Some(Message::Heartbeat(heartbeat)) => {
                let clock = shared.client.clock();
                let at = |time: Option<prost_types::Timestamp>| {
                    let time = time.ok_or_else(|| Status::internal("a heartbeat without a time"))?;
                    convert::time::moment(&time, "heartbeat").map_err(|error| Status::internal(error.to_string()))
                };
                let age = at(heartbeat.now)?.since(at(heartbeat.as_of)?);
                shared.fresh.send_replace(Some(Fresh {
                    age,
                    came: clock.monotonic(),
                    came_wall: clock.now(),
                }));
                *resume = heartbeat.resume_token;
            }
            None => {}
        }
    }
}
