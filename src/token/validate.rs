//! Validate: from memory. No store is asked, unless the caller wants the strongest answer or the key is unknown.

use std::sync::Arc;
use std::time::Duration;

use super::Tokens;
use crate::clock::UnixMillis;
use crate::keys::cache::Known;
use crate::keys::verify::{Verified, claimed, verify};
use crate::model::audit::Origin;
use crate::model::{Caller, Error, ErrorKind, InactiveReason, Result};
use crate::revocation::{Freshness, judge};

/// A token to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct ValidateRequest<'a> {
    /// The access token.
    pub token: &'a str,
    /// Whom it must be for; empty means not checked.
    pub audience: &'a str,
    /// What it must carry, all of it.
    pub required_scopes: &'a [String],
    /// Ask the durable record about this token's levels first.
    pub strong: bool,
    /// When it was asked, by the clock's monotonic time: keys loaded since need not be loaded again for it.
    pub asked: Duration,
}

/// The answer.
#[derive(Debug)]
pub struct Validation {
    /// The token as verified, or why it is not active.
    pub verdict: Result<Arc<Known>, InactiveReason>,
    /// Every revocation acknowledged before this moment was looked at.
    pub as_of: UnixMillis,
    /// Until when the caller may keep the answer; none for an inactive token.
    pub cache_until: Option<UnixMillis>,
}

impl Tokens {
    /// Whether a token is good. `REVOCATIONS_STALE` if that cannot be told.
    pub async fn validate(&self, request: ValidateRequest<'_>) -> Result<Validation> {
        if request.token.is_empty() {
            return Err(Error::invalid("access_token", "must not be empty"));
        }
        let fresh = self.feed.freshness()?;
        let verdict = match self.judge(request).await? {
            Ok(known) if request.strong && self.durable.is_revoked(&known.concerns).await? => {
                Err(InactiveReason::Revoked)
            }
            verdict => verdict,
        };
        let cache_until = verdict
            .as_ref()
            .ok()
            .map(|known| self.feed.cache_until(&fresh, known.expires));
        Ok(Validation {
            verdict,
            as_of: fresh.as_of,
            cache_until,
        })
    }

    async fn judge(&self, request: ValidateRequest<'_>) -> Result<Result<Arc<Known>, InactiveReason>> {
        let known = match self.known(request.token) {
            // Another replica may have made a key a moment ago: look, but seldom.
            Err(InactiveReason::UnknownKey) => match claimed(request.token) {
                Some(claimed) if self.keys.on_unknown_kid(&claimed, request.asked).await? => self.known(request.token),
                _ => Err(InactiveReason::UnknownKey),
            },
            known => known,
        };
        Ok(known.and_then(|known| self.check(known, request.audience, request.required_scopes)))
    }

    /// The token as it was verified before, or verified now.
    fn known(&self, token: &str) -> Result<Arc<Known>, InactiveReason> {
        let ring = self.keys.current();
        if let Some(known) = self.cache.get(token, ring.version()) {
            return Ok(known);
        }
        let verified: Verified = verify(token, ring.verifying(), &self.policy, self.clock.now())?;
        let known = Arc::new(Known::new(verified, ring.version(), self.config.leeway));
        self.cache.put(token, &known);
        Ok(known)
    }

    fn check(&self, known: Arc<Known>, audience: &str, scopes: &[String]) -> Result<Arc<Known>, InactiveReason> {
        judge(&known, self.feed.index(), self.clock.now(), audience, scopes)?;
        Ok(known)
    }

    /// Who calls with this bearer token. It must be for Countersign; a person's own token may be for the default
    /// audience, and then brings no scope: it is good for their own account alone.
    pub async fn authenticate(&self, bearer: &str) -> Result<Caller> {
        self.feed.freshness()?;
        let request = ValidateRequest {
            token: bearer,
            audience: "",
            required_scopes: &[],
            strong: false,
            asked: self.clock.monotonic(),
        };
        self.caller(self.judge(request).await?)
    }

    /// As [`Tokens::authenticate`], from memory alone; none if a store has to be asked.
    #[must_use]
    pub fn authenticate_from_memory(&self, bearer: &str) -> Option<Result<Caller>> {
        if let Err(stale) = self.feed.freshness() {
            return Some(Err(stale));
        }
        match self.known(bearer) {
            Err(InactiveReason::UnknownKey) => None,
            known => Some(self.caller(known.and_then(|known| self.check(known, "", &[])))),
        }
    }

    fn caller(&self, verdict: Result<Arc<Known>, InactiveReason>) -> Result<Caller> {
        let known = verdict.map_err(|reason| {
            Error::from(ErrorKind::CallerUnauthenticated).because(format!("the bearer token is not active: {reason:?}"))
        })?;
        let claims = &known.claims;
        let is_for = |audience: &str| claims.aud.iter().any(|name| name == audience);
        let mut caller = Caller::of_claims(claims, Origin::default());
        if !is_for(&self.config.caller_audience) {
            if !(claims.is_person() && is_for(&self.config.default_audience)) {
                return Err(Error::from(ErrorKind::CallerUnauthenticated).because("the bearer token is not for us"));
            }
            caller.scopes.clear();
        }
        Ok(caller)
    }

    /// The answer's freshness, for whoever serves without a token in hand.
    pub fn freshness(&self) -> Result<Arc<Freshness>> {
        self.feed.freshness()
    }

    /// How many tokens the cache of verified ones holds, and their weight in bytes.
    #[must_use]
    pub fn cache_size(&self) -> (usize, u64) {
        self.cache.size()
    }
}
