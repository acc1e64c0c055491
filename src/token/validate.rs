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
        let now = self.clock.now();
        let as_of = self.feed.as_of(now)?;
        let verdict = match self.judge(request, now).await? {
            Ok(known) if request.strong && self.durable.is_revoked(&known.revocation_subject).await? => {
                Err(InactiveReason::Revoked)
            }
            verdict => verdict,
        };
        Ok(self.validation(verdict, as_of))
    }

    /// As [`Tokens::validate`], about a token that was verified before; none if anything more has to be done for it.
    #[must_use]
    pub fn validate_remembered(&self, request: ValidateRequest<'_>) -> Option<Validation> {
        if request.strong {
            return None;
        }
        let now = self.clock.now();
        let as_of = self.feed.as_of(now).ok()?;
        let known = self.cache.get(request.token, self.keys.version())?;
        Some(self.validation(self.check(known, request.audience, request.required_scopes, now), as_of))
    }

    fn validation(&self, verdict: Result<Arc<Known>, InactiveReason>, as_of: UnixMillis) -> Validation {
        let known = verdict.as_ref().ok();
        Validation {
            cache_until: known.map(|known| self.feed.cache_until(as_of, UnixMillis::from_secs(known.claims.exp))),
            verdict,
            as_of,
        }
    }

    async fn judge(&self, request: ValidateRequest<'_>, now: UnixMillis) -> Result<Result<Arc<Known>, InactiveReason>> {
        let known = match self.known(request.token, now) {
            // Another replica may have made a key a moment ago: look, but seldom.
            Err(InactiveReason::UnknownKey) => match claimed(request.token) {
                Some(claimed) if self.keys.look_up_kid(&claimed, request.asked).await? => {
                    self.known(request.token, now)
                }
                _ => Err(InactiveReason::UnknownKey),
            },
            known => known,
        };
        Ok(known.and_then(|known| self.check(known, request.audience, request.required_scopes, now)))
    }

    /// The token as it was verified before, or verified now.
    fn known(&self, token: &str, now: UnixMillis) -> Result<Arc<Known>, InactiveReason> {
        let version = self.keys.version();
        if let Some(known) = self.cache.get(token, version) {
            return Ok(known);
        }
        let ring = self.keys.current();
        let verified: Verified = verify(token, ring.verifying(), &self.policy, now)?;
        let known = Arc::new(Known::new(verified, ring.version(), self.config.leeway));
        self.cache.put(token, &known);
        Ok(known)
    }

    fn check(
        &self,
        known: Arc<Known>,
        audience: &str,
        scopes: &[String],
        now: UnixMillis,
    ) -> Result<Arc<Known>, InactiveReason> {
        judge(&known, self.feed.index(), now, audience, scopes)?;
        Ok(known)
    }

    /// Who calls with this bearer token. It must be for Countersign; a person's own token may be for the default
    /// audience, and then brings no scope: it is good for their own account alone.
    pub async fn authenticate(&self, bearer: &str) -> Result<Arc<Caller>> {
        let now = self.clock.now();
        self.feed.as_of(now)?;
        let request = ValidateRequest {
            token: bearer,
            audience: "",
            required_scopes: &[],
            strong: false,
            asked: self.clock.monotonic(),
        };
        self.caller(self.judge(request, now).await?)
    }

    /// As [`Tokens::authenticate`], from memory alone; none if a store has to be asked.
    #[must_use]
    pub fn authenticate_from_memory(&self, bearer: &str) -> Option<Result<Arc<Caller>>> {
        let now = self.clock.now();
        if let Err(stale) = self.feed.as_of(now) {
            return Some(Err(stale));
        }
        match self.known(bearer, now) {
            Err(InactiveReason::UnknownKey) => None,
            known => Some(self.caller(known.and_then(|known| self.check(known, "", &[], now)))),
        }
    }

    fn caller(&self, verdict: Result<Arc<Known>, InactiveReason>) -> Result<Arc<Caller>> {
        let known = verdict.map_err(|reason| {
            Error::from(ErrorKind::CallerUnauthenticated).because(format!("the bearer token is not active: {reason:?}"))
        })?;
        // What a token makes of its holder does not change while it lives, and callers call often.
        let caller = known.caller.get_or_init(|| {
            let claims = &known.claims;
            let is_for = |audience: &str| claims.aud.iter().any(|name| name == audience);
            let mut caller = Caller::of_claims(claims, Origin::default());
            if !is_for(&self.config.caller_audience) {
                if !(claims.is_person() && is_for(&self.config.default_audience)) {
                    return None;
                }
                caller.scopes.clear();
            }
            Some(Arc::new(caller))
        });
        caller
            .clone()
            .ok_or_else(|| Error::from(ErrorKind::CallerUnauthenticated).because("the bearer token is not for us"))
    }

    /// This moment, for [`ValidateRequest::asked`].
    #[must_use]
    pub fn moment(&self) -> Duration {
        self.clock.monotonic()
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
