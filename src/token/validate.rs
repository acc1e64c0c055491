//! Validate: from memory. A store is asked only for a strong answer, or for a key that is unknown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::keys::manager::Keys;
use crate::keys::verify::claimed;
use crate::model::{Error, ErrorKind, InactiveReason, Result};
use crate::store::RevocationStore;
use crate::validator::{ReplicaTrust, TokenValidator, Validation};

/// A request to validate an access token.
#[derive(Clone, Copy)]
pub struct ValidateRequest<'a> {
    /// The access token.
    pub access_token: &'a str,
    /// The audience that it must have; empty means any.
    pub audience: &'a str,
    /// The scopes that it must have, all of them.
    pub required_scopes: &'a [String],
    /// Whether to ask the durable record about revocations of this token.
    pub strong: bool,
    /// When the request arrived, by the monotonic clock. Keys that were loaded later are not loaded again for it.
    pub asked: Duration,
}

/// Hides the token.
impl fmt::Debug for ValidateRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateRequest")
            .field("audience", &self.audience)
            .field("required_scopes", &self.required_scopes)
            .field("strong", &self.strong)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl ValidateRequest<'_> {
    /// Refuses a request without a token. `INVALID_REQUEST`.
    pub fn check(&self) -> Result<()> {
        if self.access_token.is_empty() {
            return Err(Error::invalid("access_token", "must not be empty"));
        }
        Ok(())
    }
}

/// Validates access tokens for this service: like every [`TokenValidator`] from memory, and with the stores behind it.
pub struct ServiceValidator {
    validator: TokenValidator<ReplicaTrust>,
    keys: Arc<Keys>,
    store: Arc<dyn RevocationStore>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for ServiceValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceValidator")
            .field("validator", &self.validator)
            .finish_non_exhaustive()
    }
}

impl ServiceValidator {
    /// A validator over `validator`, which asks `store` where its answer must be strong.
    #[must_use]
    pub fn new(
        validator: TokenValidator<ReplicaTrust>,
        store: Arc<dyn RevocationStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            keys: Arc::clone(&validator.trust().keys),
            validator,
            store,
            clock,
        }
    }

    /// Validates a token. An inactive one is an answer, not an error.
    ///
    /// # Errors
    /// `INVALID_REQUEST` without a token, `REVOCATIONS_STALE` if too little is known of revocations, `STORE_UNAVAILABLE` if
    /// a store is needed and cannot be asked.
    pub async fn validate(&self, request: ValidateRequest<'_>) -> Result<Validation> {
        request.check()?;
        let mut validation = match self.validate_in_memory(request) {
            // This process may have stood still: the call waits until the revocations that were made meanwhile are known.
            Err(error) if error.kind == ErrorKind::RevocationsStale => {
                self.validator.trust().feed.settle().await;
                self.validate_in_memory(request)?
            }
            validation => validation?,
        };
        // Another replica may have made the key a moment ago; the ring limits how often it is loaded for this.
        if is_unknown_key(&validation)
            && let Some(claimed) = claimed(request.access_token)
            && self.keys.look_up_kid(&claimed, request.asked).await?
        {
            validation = self.validate_in_memory(request)?;
        }
        match &validation.token {
            Ok(token) if request.strong && self.store.is_revoked(&token.revocation_subject).await? => {
                Ok(validation.inactive(InactiveReason::Revoked))
            }
            Ok(_) | Err(_) => Ok(validation),
        }
    }

    /// Validates a token strongly, for any audience and scopes.
    pub(super) async fn validate_strongly(&self, access_token: &str) -> Result<Validation> {
        self.validate(ValidateRequest {
            access_token,
            audience: "",
            required_scopes: &[],
            strong: true,
            asked: self.clock.monotonic(),
        })
        .await
    }

    /// Like [`ServiceValidator::validate`], if the answer is in memory: the token is in the cache, and the answer need not
    /// be strong.
    #[must_use]
    pub fn validate_cached(&self, request: ValidateRequest<'_>) -> Option<Validation> {
        if request.strong {
            return None;
        }
        self.validator
            .validate_cached(request.access_token, request.audience, request.required_scopes)
    }

    /// Like [`ServiceValidator::validate`] for any audience and scopes, from memory; none if a store has to be asked, or if too
    /// little is known of revocations.
    pub(super) fn validate_locally(&self, access_token: &str) -> Option<Validation> {
        let validation = self.validator.validate(access_token, "", &[]).ok()?;
        (!is_unknown_key(&validation)).then_some(validation)
    }

    /// This moment, for [`ValidateRequest::asked`].
    #[must_use]
    pub fn monotonic_now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// How many tokens the cache of verified tokens holds, and their weight in bytes.
    #[must_use]
    pub fn cache_size(&self) -> (usize, u64) {
        self.validator.cache_size()
    }

    fn validate_in_memory(&self, request: ValidateRequest<'_>) -> Result<Validation> {
        self.validator
            .validate(request.access_token, request.audience, request.required_scopes)
    }
}

fn is_unknown_key(validation: &Validation) -> bool {
    matches!(validation.token, Err(InactiveReason::UnknownKey))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_access_token() {
        let request = ValidateRequest {
            access_token: "canary",
            audience: "api",
            required_scopes: &[],
            strong: true,
            asked: Duration::ZERO,
        };
        let debug = format!("{request:?}");
        assert!(debug.contains("api") && !debug.contains("canary"), "{debug}");
    }
}
