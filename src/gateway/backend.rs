//! What the gateway needs of the service: validating access tokens and renewing sessions.

use std::sync::Arc;

use crate::model::{Caller, Result};
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
    /// Like [`Refresher::refresh`].
    fn renew(&self, request: RefreshRequest) -> impl Future<Output = Result<Refreshed>> + Send;
}

/// Renews sessions at this service, and holds the permit `P` meanwhile.
#[derive(Debug)]
pub struct Renewal<P> {
    /// Refreshes the session.
    pub refresher: Arc<Refresher>,
    /// The caller on whose behalf it is refreshed.
    pub caller: Caller,
    /// The permit to work.
    pub permit: P,
}

impl<P: Send + Sync> RenewSession for Renewal<P> {
    async fn renew(&self, request: RefreshRequest) -> Result<Refreshed> {
        self.refresher.refresh(&self.caller, request).await
    }
}
