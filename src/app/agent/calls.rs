//! What the agent answers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::{Client, Judgement, Verifier};
use crate::clock::UnixMillis;
use crate::gateway::Judge;
use crate::grpc::convert::answer::Answer;
use crate::grpc::convert::token;
use crate::grpc::services::validate::Validates;
use crate::keys::cache::Known;
use crate::model::{Error, ErrorKind, InactiveReason, Result};
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

    /// Whom to follow; `REVOCATIONS_STALE` before the first snapshot: until then nothing is answered, whoever could be
    /// asked.
    pub(super) fn following(&self) -> Result<&(Client, Verifier)> {
        let following = self.following.get().filter(|(_, verifier)| verifier.is_ready());
        following.ok_or_else(|| stale().because("the first snapshot is not complete"))
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
        let (client, verifier) = self.following()?;
        if asked.strong {
            let told = client.ask(request.clone()).await.map_err(|status| passed_on(&status))?;
            return Ok(Answer::Told(Box::new(told)));
        }
        if let Some(judgement) = verifier.judge_local(asked.token, asked.audience, asked.required_scopes) {
            return Ok(self.judged(judgement));
        }
        let told = client.ask(request.clone()).await;
        Ok(Answer::Told(Box::new(told.map_err(|status| no_help(&status))?)))
    }
}

impl Judge for AgentCalls {
    async fn judge(
        &self,
        token: &str,
        audience: &str,
        scopes: &[String],
    ) -> Result<Result<Arc<Known>, InactiveReason>> {
        let (_, verifier) = self.following()?;
        let judgement = verifier.judge_local(token, audience, scopes);
        Ok(judgement.ok_or_else(|| stale().because("memory is too old"))?.verdict)
    }
}

fn stale() -> Error {
    Error::from(ErrorKind::RevocationsStale).retry_after(Duration::from_secs(1))
}

/// Memory is too old, and the upstream does not help.
pub(super) fn no_help(status: &Status) -> Error {
    stale().because(format!("the upstream answers {:?}", status.code()))
}

/// What the upstream says of a question that it alone can answer. Refusing *us* is no answer to who asked.
pub(super) fn passed_on(status: &Status) -> Error {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let kind = match (status.code(), kind_of(reason)) {
        (Code::Unavailable | Code::ResourceExhausted | Code::InvalidArgument, Some(kind)) => kind,
        (Code::DeadlineExceeded, _) => ErrorKind::DeadlineExceeded,
        _ => ErrorKind::StoreUnavailable,
    };
    Error::from(kind).because(format!("the upstream answers {:?} {reason}", status.code()))
}
