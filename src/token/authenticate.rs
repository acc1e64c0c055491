//! Authenticating callers of this service by their bearer token.

use std::sync::{Arc, OnceLock};

use super::validate::{ServiceValidator, ValidateRequest};
use crate::config::Tokens as TokenConfig;
use crate::keys::verified::VerifiedToken;
use crate::model::audit::Origin;
use crate::model::{Caller, Error, ErrorKind, Result};
use crate::validator::Validation;

/// Authenticates callers by their bearer token.
#[derive(Debug)]
pub struct BearerAuthenticator {
    /// Validates the token.
    pub validator: Arc<ServiceValidator>,
    /// The audiences that are accepted.
    pub config: Arc<TokenConfig>,
}

/// The caller that a token stands for, kept with the verified token: the same while the token lives, and needed for every
/// call. None inside: the token is not for this service.
type CachedCaller = OnceLock<Option<Arc<Caller>>>;

impl BearerAuthenticator {
    /// The caller that shows this bearer token. The token must be for Countersign. A user's own token may be for the default
    /// audience; it then has no scopes and is accepted for the user's own account alone.
    ///
    /// # Errors
    /// `CALLER_UNAUTHENTICATED` for a token that is inactive or not for this service; else as
    /// [`ServiceValidator::validate`].
    pub async fn authenticate(&self, bearer: &str) -> Result<Arc<Caller>> {
        let request = ValidateRequest {
            access_token: bearer,
            audience: "",
            required_scopes: &[],
            strong: false,
            asked: self.validator.monotonic_now(),
        };
        self.caller(self.validator.validate(request).await?)
    }

    /// Like [`BearerAuthenticator::authenticate`], from memory; none if a store has to be asked, or if too little
    /// is known of revocations.
    #[must_use]
    pub fn authenticate_locally(&self, bearer: &str) -> Option<Result<Arc<Caller>>> {
        Some(self.caller(self.validator.validate_locally(bearer)?))
    }

    fn caller(&self, validation: Validation) -> Result<Arc<Caller>> {
        let token = validation.token.map_err(|reason| {
            Error::from(ErrorKind::CallerUnauthenticated).because(format!("the bearer token is not active: {reason:?}"))
        })?;
        let caller = match token.extensions.get::<CachedCaller>() {
            Some(cached) => cached.get_or_init(|| self.caller_of(&token)).clone(),
            None => self.caller_of(&token),
        };
        caller.ok_or_else(|| {
            Error::from(ErrorKind::CallerUnauthenticated).because("the bearer token is not for this service")
        })
    }

    /// The caller that a verified token stands for; none if the token is not for this service.
    fn caller_of(&self, token: &VerifiedToken) -> Option<Arc<Caller>> {
        let claims = &token.claims;
        let is_for = |audience: &str| claims.aud.iter().any(|name| name == audience);
        let mut caller = Caller::of_claims(claims, Origin::default());
        if !is_for(&self.config.caller_audience) {
            if !(claims.is_person() && is_for(&self.config.default_audience)) {
                return None;
            }
            caller.scopes.clear();
        }
        Some(Arc::new(caller))
    }
}
