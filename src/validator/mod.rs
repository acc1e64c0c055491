//! The validator of access tokens: cache, verification and revocation index in one object. The service, the agent and the
//! client library all answer with it; they differ in where their keys and revocations come from, which is
//! [`TrustState`]. It does no I/O.

mod cache;
mod check;
#[cfg(feature = "server")]
mod replica;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use cache::TokenCache;
pub use check::check;
#[cfg(feature = "server")]
pub use replica::ReplicaTrust;

use crate::clock::{Clock, UnixMillis};
use crate::keys::verified::VerifiedToken;
use crate::keys::verify::{Policy, verify};
use crate::keys::verifying::VerifyingKeys;
use crate::model::{InactiveReason, Result};
use crate::revocation::Index;

/// The keys and revocations that a validator answers from, and how current they are.
pub trait TrustState: Send + Sync {
    /// The version of the key set: rises with each change.
    fn keys_version(&self) -> u64;

    /// The key set and its version. Where both cannot be read at one moment, the version may be older than the keys,
    /// never newer: a token that was verified under an older version is only verified again.
    fn keys(&self) -> (Arc<VerifyingKeys>, u64);

    /// Calls `read` with the revocation index.
    fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R;

    /// The moment, by the service's clock, before which every acknowledged revocation is in the index. `REVOCATIONS_STALE`
    /// if that is too long before `now` to answer from. It is part of every validation: it takes no lock and counts no
    /// reference.
    fn as_of(&self, now: UnixMillis) -> Result<UnixMillis>;
}

/// How a validator works.
#[derive(Clone, Debug)]
pub struct ValidatorConfig {
    /// The only issuer: `iss` must be exactly this text.
    pub issuer: String,
    /// The clock difference that is tolerated; at most 5 s counts.
    pub leeway: Duration,
    /// The memory of the cache of verified tokens, in bytes.
    pub cache_bytes: u64,
    /// How long after [`Validation::as_of`] a caller may keep an answer.
    pub answer_ttl: Duration,
}

/// The result of validating one access token.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The verified token, or why the token is not active.
    pub token: Result<Arc<VerifiedToken>, InactiveReason>,
    /// Every revocation that was acknowledged before this moment was considered.
    pub as_of: UnixMillis,
    /// Until when the caller may keep the answer; none for an inactive token.
    pub cache_until: Option<UnixMillis>,
}

impl Validation {
    /// The same answer for a token that turned out to be inactive.
    #[must_use]
    pub fn inactive(self, reason: InactiveReason) -> Self {
        Self {
            token: Err(reason),
            cache_until: None,
            ..self
        }
    }
}

/// Validates access tokens from memory.
pub struct TokenValidator<T> {
    trust: T,
    clock: Arc<dyn Clock>,
    cache: TokenCache,
    policy: Policy,
    answer_ttl: Duration,
}

/// Without the keys and revocations, which may be many.
impl<T> fmt::Debug for TokenValidator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenValidator")
            .field("policy", &self.policy)
            .field("answer_ttl", &self.answer_ttl)
            .finish_non_exhaustive()
    }
}

impl<T: TrustState> TokenValidator<T> {
    /// A validator with an empty cache.
    #[must_use]
    pub fn new(trust: T, clock: Arc<dyn Clock>, config: ValidatorConfig) -> Self {
        Self {
            trust,
            clock,
            cache: TokenCache::new(config.cache_bytes),
            policy: Policy {
                issuer: config.issuer,
                leeway: config.leeway,
            },
            answer_ttl: config.answer_ttl,
        }
    }

    /// The keys and revocations that this validator answers from.
    pub const fn trust(&self) -> &T {
        &self.trust
    }

    /// Validates a token for this audience (empty: any) and all of these scopes.
    ///
    /// # Errors
    /// `REVOCATIONS_STALE` if too little is known of revocations to answer.
    pub fn validate(&self, access_token: &str, audience: &str, scopes: &[String]) -> Result<Validation> {
        // The wall clock is read once: this runs on every request of every service.
        let now = self.clock.now();
        let as_of = self.trust.as_of(now)?;
        let token = self.verified(access_token, now);
        Ok(self.checked(token, audience, scopes, now, as_of))
    }

    /// Like [`TokenValidator::validate`], if the token is in the cache. None if it is not, or if too little is known of
    /// revocations.
    #[must_use]
    pub fn validate_cached(&self, access_token: &str, audience: &str, scopes: &[String]) -> Option<Validation> {
        let now = self.clock.now();
        let as_of = self.trust.as_of(now).ok()?;
        let token = self.cache.get(access_token, self.trust.keys_version())?;
        Some(self.checked(Ok(token), audience, scopes, now, as_of))
    }

    /// How many tokens the cache holds, and their weight in bytes.
    #[must_use]
    pub fn cache_size(&self) -> (usize, u64) {
        self.cache.size()
    }

    /// The token from the cache, or verified now and put there.
    fn verified(&self, access_token: &str, now: UnixMillis) -> Result<Arc<VerifiedToken>, InactiveReason> {
        if let Some(token) = self.cache.get(access_token, self.trust.keys_version()) {
            return Ok(token);
        }
        let (keys, keys_version) = self.trust.keys();
        let token = Arc::new(verify(access_token, &keys, &self.policy, now)?);
        self.cache.put(access_token, &token, keys_version);
        Ok(token)
    }

    fn checked(
        &self,
        token: Result<Arc<VerifiedToken>, InactiveReason>,
        audience: &str,
        scopes: &[String],
        now: UnixMillis,
        as_of: UnixMillis,
    ) -> Validation {
        let token = token.and_then(|token| {
            self.trust
                .with_index(|index| check(&token, index, now, audience, scopes))?;
            Ok(token)
        });
        let until = |token: &Arc<VerifiedToken>| {
            let expires = UnixMillis::from_secs(token.claims.exp);
            expires.min(as_of.plus(self.answer_ttl))
        };
        Validation {
            cache_until: token.as_ref().ok().map(until),
            token,
            as_of,
        }
    }
}
