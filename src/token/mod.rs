//! The rules: issue, refresh, revoke, validate, exchange. One operation a file.
//!
//! They see the stores' traits, never a backend; plain data, never a message of the wire. What an operation needs of
//! the deployment is in [`Tokens`]; who asks is a [`crate::model::Caller`].

mod allowed;
mod begin;
mod exchange;
mod issue;
mod machine;
mod mint;
mod refresh;
pub mod refresh_token;
mod revoke;
mod session_limit;
mod validate;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

pub use exchange::ExchangeRequest;
pub use issue::PasswordRequest;
pub use machine::MachineRequest;
pub use mint::IssuedTokens;
pub use refresh::{RefreshRequest, Refreshed};
pub use revoke::{RevokeRequest, RevokeTarget};
pub use validate::{ValidateRequest, Validation};

use crate::clock::Clock;
use crate::keys::cache::Cache;
use crate::keys::manager::Keys;
use crate::keys::verify::Policy;
use crate::model::{AuditEvent, AuditType, Caller, Client, ReusePolicy};
use crate::password::Pool;
use crate::revocation::{Feed, RevocationPublisher};
use crate::secret::Entropy;
use crate::store::{DurableStore, SessionStore};
use crate::throttle::Throttle;

/// The lifetimes and names of tokens.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// `iss`, exactly.
    pub issuer: String,
    /// What an empty audience means.
    pub default_audience: String,
    /// The audience of tokens that call Countersign itself.
    pub caller_audience: String,
    /// How long an access token lives, unless its client says otherwise; likewise the next four.
    pub access_ttl: Duration,
    /// How long a session may go without a refresh.
    pub refresh_idle_ttl: Duration,
    /// How long a session may last at all.
    pub session_ttl: Duration,
    /// How long the previous refresh token may be presented again.
    pub refresh_grace: Duration,
    /// What presenting it again needs.
    pub reuse_policy: ReusePolicy,
    /// The most live sessions of one user at one client.
    pub max_sessions_per_user: u32,
    /// By how much of its life an access token may be shortened, so that a fleet does not refresh at once.
    pub access_jitter: f64,
    /// The clock difference that is forgiven, at most 5 s.
    pub leeway: Duration,
    /// The memory of the cache of verified tokens, in bytes.
    pub cache_bytes: u64,
}

impl TokenConfig {
    fn access_ttl(&self, client: &Client) -> Duration {
        client.access_token_ttl.unwrap_or(self.access_ttl)
    }

    fn idle_ttl(&self, client: &Client) -> Duration {
        client.refresh_idle_ttl.unwrap_or(self.refresh_idle_ttl)
    }

    fn session_ttl(&self, client: &Client) -> Duration {
        client.session_ttl.unwrap_or(self.session_ttl)
    }

    fn grace(&self, client: &Client) -> Duration {
        client.refresh_grace.unwrap_or(self.refresh_grace)
    }

    fn policy(&self, client: &Client) -> ReusePolicy {
        client.reuse_policy.unwrap_or(self.reuse_policy)
    }

    fn max_sessions(&self, client: &Client) -> u32 {
        if client.max_sessions_per_user == 0 {
            self.max_sessions_per_user
        } else {
            client.max_sessions_per_user
        }
    }
}

/// What the operations share.
pub struct Tokens {
    durable: Arc<dyn DurableStore>,
    sessions: Arc<dyn SessionStore>,
    publisher: Arc<RevocationPublisher>,
    keys: Arc<Keys>,
    feed: Arc<Feed>,
    hashing: Arc<Pool>,
    throttle: Arc<Throttle>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    cache: Cache,
    policy: Policy,
    config: TokenConfig,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What [`Tokens`] is made of.
#[expect(missing_docs, reason = "each is the room of that name")]
#[expect(missing_debug_implementations, reason = "taken apart at once by Tokens::new")]
pub struct Parts {
    pub durable: Arc<dyn DurableStore>,
    pub sessions: Arc<dyn SessionStore>,
    pub publisher: Arc<RevocationPublisher>,
    pub keys: Arc<Keys>,
    pub feed: Arc<Feed>,
    pub hashing: Arc<Pool>,
    pub throttle: Arc<Throttle>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub config: TokenConfig,
}

impl Tokens {
    /// The operations over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            durable,
            sessions,
            publisher,
            keys,
            feed,
            hashing,
            throttle,
            clock,
            entropy,
            config,
        } = parts;
        let policy = Policy {
            issuer: config.issuer.clone(),
            leeway: config.leeway,
        };
        let cache = Cache::new(config.cache_bytes);
        Self {
            durable,
            sessions,
            publisher,
            keys,
            feed,
            hashing,
            throttle,
            clock,
            entropy,
            cache,
            policy,
            config,
        }
    }

    /// Writes an event of something refused: what was refused changed nothing, so a trail that cannot be written does
    /// not turn the answer into an outage.
    async fn audit_best_effort(&self, event: &AuditEvent) {
        if let Err(error) = self.durable.append_audit(event).await {
            tracing::warn!(request_id = event.origin.request_id, %error, kind = event.kind, "an audit event could not be written");
        }
    }

    fn event(&self, kind: AuditType, subject: &impl ToString, caller: &Caller) -> AuditEvent {
        AuditEvent::new(kind, subject, &caller.origin, self.clock.now(), &*self.entropy)
    }
}
