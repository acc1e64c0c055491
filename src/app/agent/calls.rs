//! What the agent answers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::{Client, Judgement, Verifier};
use crate::clock::UnixMillis;
use crate::grpc::convert::answer::Answer;
use crate::grpc::convert::token;
use crate::grpc::layers::{Authentication, Authenticator, Credential, Inbound, Routed, Routes};
use crate::grpc::policy::Method;
use crate::grpc::services::validate::{self, Validates};
use crate::grpc::services::{Boxed, boxed};
use crate::model::audit::Origin;
use crate::model::{Caller, Error, ErrorKind, Identity, Result};
use crate::proto::ValidateRequest;
use crate::proto::convert::reason::kind_of;
use crate::token::Validation;

/// Validate, from memory where that is fresh enough, else from the upstream.
pub(super) struct AgentCalls {
    following: OnceLock<(Client, Verifier)>,
    /// How long after `as_of` an answer may be kept.
    keep: Duration,
}

impl AgentCalls {
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            following: OnceLock::new(),
            keep,
        }
    }

    /// Answers from this verifier from now on, once it is ready.
    pub(super) fn follow(&self, client: Client, verifier: Verifier) {
        // It is called once.
        let _ = self.following.set((client, verifier));
    }

    fn judged(&self, judgement: Judgement) -> Answer {
        let Judgement { verdict, as_of } = judgement;
        let until = |exp| UnixMillis::from_secs(exp).min(as_of.plus(self.keep));
        Answer::Judged(Validation {
            cache_until: verdict.as_ref().ok().map(|known| until(known.claims.exp)),
            verdict,
            as_of,
        })
    }
}

impl Validates for AgentCalls {
    fn remembered(&self, request: &ValidateRequest) -> Option<Answer> {
        let (_, verifier) = self.following.get()?;
        let asked = token::validate(request, Duration::ZERO)
            .ok()
            .filter(|asked| !asked.strong)?;
        let judgement = verifier.judge_remembered(asked.token, asked.audience, asked.required_scopes)?;
        Some(self.judged(judgement))
    }

    /// Nothing is looked up here: the upstream tells of its keys by itself.
    fn asked(&self) -> Duration {
        Duration::ZERO
    }

    async fn validate(&self, request: &ValidateRequest, _: Duration) -> Result<Answer> {
        let asked = token::validate(request, Duration::ZERO)?;
        if asked.token.is_empty() {
            return Err(Error::invalid("access_token", "must not be empty"));
        }
        let stale = || Error::from(ErrorKind::RevocationsStale).retry_after(Duration::from_secs(1));
        let following = self.following.get().filter(|(_, verifier)| verifier.is_ready());
        // Before the first snapshot nothing is answered, whoever could be asked.
        let (client, verifier) = following.ok_or_else(|| stale().because("the first snapshot is not complete"))?;
        if asked.strong {
            let told = client.ask(request.clone()).await.map_err(|status| passed_on(&status))?;
            return Ok(Answer::Told(Box::new(told)));
        }
        if let Some(judgement) = verifier.judge_local(asked.token, asked.audience, asked.required_scopes) {
            return Ok(self.judged(judgement));
        }
        let told = client.ask(request.clone()).await;
        let told = told.map_err(|status| stale().because(format!("the upstream answers {:?}", status.code())))?;
        Ok(Answer::Told(Box::new(told)))
    }
}

/// What the upstream says of a question that it alone can answer. Refusing *us* is no answer to who asked.
fn passed_on(status: &Status) -> Error {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let kind = match (status.code(), kind_of(reason)) {
        (Code::Unavailable | Code::ResourceExhausted | Code::InvalidArgument, Some(kind)) => kind,
        (Code::DeadlineExceeded, _) => ErrorKind::DeadlineExceeded,
        _ => ErrorKind::StoreUnavailable,
    };
    Error::from(kind).because(format!("the upstream answers {:?} {reason}", status.code()))
}

/// Where the agent's calls go.
pub(super) struct AgentRoutes {
    calls: Arc<AgentCalls>,
    health: Boxed,
}

impl AgentRoutes {
    pub(super) fn new(
        calls: Arc<AgentCalls>,
        health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    ) -> Self {
        let health = boxed(health);
        Self { calls, health }
    }
}

impl Routes for AgentRoutes {
    fn route(&self, method: &'static Method, request: http::Request<Inbound>) -> Routed {
        if method.service == "grpc.health.v1.Health" {
            return (self.health)(request);
        }
        validate::serve(&self.calls, method, request)
    }
}

/// Whoever reaches the agent is on the same machine, and may ask.
pub(super) struct Neighbours(Arc<Caller>);

impl Default for Neighbours {
    fn default() -> Self {
        Self(Arc::new(Caller {
            identity: Identity::Anonymous,
            scopes: vec!["countersign:validate".to_owned()],
            origin: Origin::default(),
        }))
    }
}

impl Authenticator for Neighbours {
    fn authenticate(&self, _: Credential<'_>) -> Authentication {
        Authentication::Known(Ok(self.0.clone()))
    }

    fn nobody(&self) -> Arc<Caller> {
        self.0.clone()
    }
}
