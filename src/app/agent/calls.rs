//! How the agent answers Validate.

use std::sync::OnceLock;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::{Client, TrustFollower};
use crate::gateway::ValidateToken;
use crate::grpc::convert::answer::ValidateAnswer;
use crate::grpc::convert::token;
use crate::grpc::services::validate::AnswerValidate;
use crate::model::{Error, ErrorKind, Result};
use crate::proto::ValidateRequest;
use crate::proto::convert::reason::kind_of;
use crate::validator::{TokenValidator, Validation};

/// Validate, from memory while that is fresh enough, else from the upstream.
#[derive(Default)]
pub(super) struct AgentCalls {
    upstream: OnceLock<Upstream>,
}

/// The service that the agent follows.
pub(super) struct Upstream {
    pub(super) client: Client,
    pub(super) validator: TokenValidator<TrustFollower>,
}

impl AgentCalls {
    /// Sets the upstream, once. Answers follow when its first snapshot is complete.
    pub(super) fn follow(&self, upstream: Upstream) -> &Upstream {
        self.upstream.get_or_init(|| upstream)
    }

    /// The upstream. `REVOCATIONS_STALE` before its first snapshot is complete: until then there is no answer, not even one
    /// of the upstream.
    pub(super) fn upstream(&self) -> Result<&Upstream> {
        let ready = self
            .upstream
            .get()
            .filter(|upstream| upstream.validator.trust().is_ready());
        ready.ok_or_else(|| Error::revocations_stale().because("the first snapshot is not complete"))
    }
}

impl AnswerValidate for AgentCalls {
    fn validate_cached(&self, request: &ValidateRequest) -> Option<ValidateAnswer> {
        let request = token::validate(request, Duration::ZERO)
            .ok()
            .filter(|request| !request.strong)?;
        let validation = self.upstream.get()?.validator.validate_cached(
            request.access_token,
            request.audience,
            request.required_scopes,
        )?;
        Some(ValidateAnswer::Local(validation))
    }

    /// Nothing is looked up here: the upstream sends its keys unasked.
    fn monotonic_now(&self) -> Duration {
        Duration::ZERO
    }

    async fn validate(&self, request: &ValidateRequest, _: Duration) -> Result<ValidateAnswer> {
        let asked = token::validate(request, Duration::ZERO)?;
        asked.check()?;
        let upstream = self.upstream()?;
        if asked.strong {
            let response = upstream.client.ask(request.clone()).await;
            let response = response.map_err(|status| pass_on(&status))?;
            return Ok(ValidateAnswer::Upstream(Box::new(response)));
        }
        let local = upstream
            .validator
            .validate(asked.access_token, asked.audience, asked.required_scopes);
        if let Ok(validation) = local {
            return Ok(ValidateAnswer::Local(validation));
        }
        let response = upstream.client.ask(request.clone()).await;
        let response = response.map_err(|status| stale_without_upstream(&status))?;
        Ok(ValidateAnswer::Upstream(Box::new(response)))
    }
}

impl ValidateToken for AgentCalls {
    async fn validate(&self, access_token: &str, audience: &str, scopes: &[String]) -> Result<Validation> {
        self.upstream()?.validator.validate(access_token, audience, scopes)
    }
}

/// The error where memory is too old and the upstream does not answer.
pub(super) fn stale_without_upstream(status: &Status) -> Error {
    Error::revocations_stale().because(format!("the upstream answers {:?}", status.code()))
}

/// The error of the upstream about a request that only the upstream can answer. That it refuses the agent itself is not
/// passed on to the agent's caller.
pub(super) fn pass_on(status: &Status) -> Error {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let kind = match (status.code(), kind_of(reason)) {
        (Code::Unavailable | Code::ResourceExhausted | Code::InvalidArgument, Some(kind)) => kind,
        (Code::DeadlineExceeded, _) => ErrorKind::DeadlineExceeded,
        _ => ErrorKind::StoreUnavailable,
    };
    Error::from(kind).because(format!("the upstream answers {:?} {reason}", status.code()))
}
