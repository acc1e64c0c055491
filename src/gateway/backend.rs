//! What the gateway needs of the service: validating access tokens and renewing sessions.

use std::sync::Arc;

use crate::clock::Deadline;
use crate::model::{Caller, Result, UserId};
use crate::secret::SecretText;
use crate::token::{RefreshRequest, Refreshed, Refresher, ServiceValidator, ValidateRequest};
use crate::validator::Validation;

/// Validates access tokens for the gateway.
pub trait ValidateToken: Send + Sync + 'static {
    /// Validates `access_token` for this audience (empty: any) and all of these scopes. An error means that there is no
    /// answer, not that the token is inactive.
    fn validate(
        &self,
        access_token: &str,
        audience: &str,
        scopes: &[String],
    ) -> impl Future<Output = Result<Validation>> + Send;
}

impl ValidateToken for ServiceValidator {
    async fn validate(&self, access_token: &str, audience: &str, scopes: &[String]) -> Result<Validation> {
        let request = ValidateRequest {
            access_token,
            audience,
            required_scopes: scopes,
            strong: false,
            asked: self.monotonic_now(),
        };
        self.validate(request).await
    }
}

/// Renews sessions for the gateway.
pub trait RenewSession: Send + Sync {
    /// The user of a refresh token, after its tag was checked; like [`Refresher::verify`].
    fn verify(&self, refresh_token: &SecretText) -> impl Future<Output = Result<UserId>> + Send;

    /// Like [`Refresher::refresh`].
    fn renew(&self, request: RefreshRequest) -> impl Future<Output = Result<Refreshed>> + Send;
}

/// Renews sessions at this service. `A` gives the permit to work, which is held while a session is refreshed.
pub struct Renewal<A> {
    /// Refreshes the session.
    pub refresher: Arc<Refresher>,
    /// The caller on whose behalf it is refreshed.
    pub caller: Caller,
    /// Until when the caller waits.
    pub deadline: Deadline,
    /// Takes the permit. An error, such as `OVERLOADED`, becomes the result of the renewal.
    pub admit: A,
}

impl<A> std::fmt::Debug for Renewal<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

impl<A, P> RenewSession for Renewal<A>
where
    A: Fn() -> Result<P> + Send + Sync,
    P: Send,
{
    async fn verify(&self, refresh_token: &SecretText) -> Result<UserId> {
        Ok(self.refresher.verify(refresh_token).await?.user)
    }

    async fn renew(&self, request: RefreshRequest) -> Result<Refreshed> {
        let _permit = (self.admit)()?;
        self.refresher.refresh(&self.caller, request, self.deadline).await
    }
}
