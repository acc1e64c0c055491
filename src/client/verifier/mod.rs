//! Validating without a call: keys and revocations are followed, everything else is in the token.

mod follow;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;
use tonic::Status;

use self::follow::follow;
use super::calls::Client;
use crate::clock::UnixMillis;
use crate::keys::cache::{Cache, Known};
use crate::keys::verify::{Policy, claims_on_trust, verify};
use crate::keys::verifying::VerifyingKeys;
use crate::model::{Claims, InactiveReason};
use crate::proto::convert;
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

/// What is said of a token from memory.
#[derive(Debug)]
pub struct Judgement {
    /// The token as verified, or why it is not active.
    pub verdict: Result<Arc<Known>, InactiveReason>,
    /// Every revocation acknowledged before this moment of the service's clock was looked at.
    pub as_of: UnixMillis,
}

/// Validates tokens from memory, revocations included. Cheap to clone; the last clone stops following.
///
/// ```no_run
/// use countersign::client::{Client, Credential, Refused, Verifier, VerifierConfig};
///
/// # async fn example(token: &str, secret: String) -> Result<(), tonic::Status> {
/// let client = Client::builder("http://127.0.0.1:50051")
///     .credential(Credential::Secret {
///         client_id: "inventory".to_owned(),
///         secret: secret.into(),
///         scope: vec!["countersign:watch".to_owned(), "countersign:validate".to_owned()],
///     })
///     .connect_lazy()?;
/// let verifier = Verifier::start(client, VerifierConfig::new("https://countersign.local"));
/// verifier.ready().await;
/// match verifier.verify(token, "api", &["orders:read".to_owned()]).await {
///     Ok(claims) => println!("{} may read orders", claims.sub),
///     Err(Refused::Inactive(reason)) => println!("no good: {reason:?}"),
///     Err(Refused::Unavailable(status)) => println!("try again: {status}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    shared: Arc<Shared>,
    _following: Arc<tokio_util::task::AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    max_staleness: Duration,
    policy: Policy,
    keys: ArcSwap<VerifyingKeys>,
    ring: AtomicU64,
    index: ArcSwap<Index>,
    fresh: ArcSwapOption<Fresh>,
    ready: watch::Sender<bool>,
    cache: Cache,
}

/// What the last heartbeat said.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    /// Everything acknowledged before this moment of the service's clock is known.
    as_of: UnixMillis,
    /// Its age when it came: the service's own, by the service's clocks.
    age: Duration,
    /// When it came, by both clocks: a suspended machine's monotonic clock may have stood still.
    came: Duration,
    came_wall: UnixMillis,
}

impl Verifier {
    /// A verifier that follows the service through `client`, which needs the scope `countersign:watch`, and
    /// `countersign:validate` to ask where memory is too old. Answers nothing by itself before its first snapshot is
    /// complete; see [`Verifier::ready`]. Called within a tokio runtime.
    #[must_use]
    pub fn start(client: Client, config: VerifierConfig) -> Self {
        let shared = Arc::new(Shared {
            client,
            max_staleness: config.max_staleness,
            policy: Policy {
                issuer: config.issuer,
                leeway: config.leeway,
            },
            keys: ArcSwap::default(),
            ring: AtomicU64::new(0),
            index: ArcSwap::default(),
            fresh: ArcSwapOption::empty(),
            ready: watch::channel(false).0,
            cache: Cache::new(config.cache_bytes),
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
        drop(self.shared.ready.subscribe().wait_for(|ready| *ready).await);
    }

    /// Whether the first snapshot is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// How old the knowledge of revocations is; none before the first snapshot.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let fresh = self.shared.fresh.load();
        let clock = self.shared.client.clock();
        Some(fresh.as_ref()?.staleness(clock.monotonic(), clock.now()))
    }

    /// Whether `token` is good, for this audience (empty: not checked), with all of these scopes: the answer that
    /// `Validate` gives. Answered from memory; while that is too old, the service is asked.
    pub async fn verify(&self, token: &str, audience: &str, scopes: &[String]) -> Result<Arc<Claims>, Refused> {
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
    ) -> Option<Result<Arc<Claims>, InactiveReason>> {
        let judged = self.judge_local(token, audience, scopes)?;
        Some(judged.verdict.map(|known| known.claims.clone()))
    }

    /// As [`Verifier::verify_local`], with what the verdict rests on.
    #[must_use]
    pub fn judge_local(&self, token: &str, audience: &str, scopes: &[String]) -> Option<Judgement> {
        self.shared
            .judge(audience, scopes, |shared, now| Some(shared.known(token, now)))
    }

    /// As [`Verifier::judge_local`], about a token that was verified before; none about others.
    #[must_use]
    pub fn judge_remembered(&self, token: &str, audience: &str, scopes: &[String]) -> Option<Judgement> {
        self.shared.judge(audience, scopes, |shared, _| {
            shared.cache.get(token, shared.ring.load(Ordering::Acquire)).map(Ok)
        })
    }

    async fn verify_remote(&self, token: &str, audience: &str, scopes: &[String]) -> Result<Arc<Claims>, Refused> {
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let client = &self.shared.client;
        let answer = client
            .validate(token, audience, &scopes)
            .await
            .map_err(Refused::Unavailable)?;
        if answer.active {
            // The service has judged it; what it says is read from the token itself, which says more than the answer.
            return claims_on_trust(token)
                .map(Arc::new)
                .ok_or_else(|| Refused::Unavailable(Status::internal("a token that this version cannot read")));
        }
        Err(match convert::reason::inactive(answer.reason()) {
            Some(reason) => Refused::Inactive(reason),
            None => Refused::Unavailable(Status::internal("a reason that this version does not know")),
        })
    }
}

impl Fresh {
    fn staleness(&self, monotonic: Duration, now: UnixMillis) -> Duration {
        let since = monotonic.saturating_sub(self.came).max(now.since(self.came_wall));
        self.age + since
    }
}

impl Shared {
    fn judge(
        &self,
        audience: &str,
        scopes: &[String],
        known: impl FnOnce(&Self, UnixMillis) -> Option<Result<Arc<Known>, InactiveReason>>,
    ) -> Option<Judgement> {
        // The clocks are read once: this runs on every request of every service.
        let clock = self.client.clock();
        let now = clock.now();
        let fresh = self.fresh.load();
        let fresh = fresh.as_ref()?;
        if fresh.staleness(clock.monotonic(), now) > self.max_staleness {
            return None;
        }
        let verdict = known(self, now)?.and_then(|known| {
            judge(&known, &self.index.load(), now, audience, scopes)?;
            Ok(known)
        });
        Some(Judgement {
            verdict,
            as_of: fresh.as_of,
        })
    }

    fn known(&self, token: &str, now: UnixMillis) -> Result<Arc<Known>, InactiveReason> {
        let ring = self.ring.load(Ordering::Acquire);
        if let Some(known) = self.cache.get(token, ring) {
            return Ok(known);
        }
        let verified = verify(token, &self.keys.load(), &self.policy, now)?;
        let known = Arc::new(Known::new(verified, ring, self.policy.leeway));
        self.cache.put(token, &known);
        Ok(known)
    }
}
