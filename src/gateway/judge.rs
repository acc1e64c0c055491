//! What the rule stands on: who tells good tokens from bad ones, and who renews them.

use std::sync::Arc;

use crate::keys::cache::Known;
use crate::model::{Caller, InactiveReason, Result};
use crate::token::{RefreshRequest, Refreshed, Tokens, ValidateRequest};

/// Tells good access tokens from bad ones.
pub trait Judge: Send + Sync + 'static {
    /// Whether `token` is good for this audience with all of these scopes. An error means that this cannot be told.
    fn judge(
        &self,
        token: &str,
        audience: &str,
        scopes: &[String],
    ) -> impl Future<Output = Result<Result<Arc<Known>, InactiveReason>>> + Send;
}

impl Judge for Tokens {
    async fn judge(
        &self,
        token: &str,
        audience: &str,
        scopes: &[String],
    ) -> Result<Result<Arc<Known>, InactiveReason>> {
        let request = ValidateRequest {
            token,
            audience,
            required_scopes: scopes,
            strong: false,
            asked: self.moment(),
        };
        Ok(self.validate(request).await?.verdict)
    }
}

/// Exchanges a refresh token for its successor on somebody's behalf.
pub trait Renews: Send + Sync {
    /// As [`Tokens::refresh`].
    fn renew(&self, request: RefreshRequest) -> impl Future<Output = Result<Refreshed>> + Send;
}

/// By the rules of this service; `P` is held meanwhile.
#[derive(Debug)]
pub struct Renewal<P> {
    /// The rules.
    pub tokens: Arc<Tokens>,
    /// On whose behalf.
    pub caller: Caller,
    /// Leave to work.
    pub pass: P,
}

impl<P: Send + Sync> Renews for Renewal<P> {
    async fn renew(&self, request: RefreshRequest) -> Result<Refreshed> {
        self.tokens.refresh(&self.caller, request).await
    }
}
