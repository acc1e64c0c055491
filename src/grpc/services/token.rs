//! `TokenService`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::validate::Validates;
use super::{Desk, Rules};
use crate::grpc::convert::answer::Answer;
use crate::grpc::convert::key_set;
use crate::grpc::convert::token::{self, IssueBy};
use crate::grpc::layers::Call;
use crate::grpc::status::{log, status};
use crate::model::Error;
use crate::proto::convert::time::timestamp;
use crate::proto::token_service_server::TokenService;
use crate::proto::watch_revocations_response::Message;
use crate::proto::{
    GetKeysRequest, GetKeysResponse, Heartbeat, IssueRequest, IssueResponse, RefreshRequest, RefreshResponse,
    Revocation, RevocationList, RevokeRequest, RevokeResponse, ValidateBatchRequest, ValidateBatchResponse,
    ValidateRequest, ValidateResponse, WatchRevocationsRequest, WatchRevocationsResponse,
};
use crate::revocation::{Watch, Watched};
use crate::token::Tokens;

pub(super) struct TokenCalls {
    desk: Desk,
    rules: Rules,
}

impl TokenCalls {
    pub(super) fn new(desk: Desk, rules: Rules) -> Self {
        Self { desk, rules }
    }
}

/// Validate and `ValidateBatch` by the rules of this service.
pub(super) struct ValidateCalls {
    desk: Desk,
    tokens: Arc<Tokens>,
}

impl ValidateCalls {
    pub(super) fn new(desk: Desk, rules: &Rules) -> Self {
        let tokens = rules.tokens.clone();
        Self { desk, tokens }
    }
}

impl Validates for ValidateCalls {
    fn remembered(&self, request: &ValidateRequest) -> Option<Answer> {
        let request = token::validate(request, Duration::ZERO).ok()?;
        self.tokens.validate_remembered(request).map(Answer::Judged)
    }

    fn asked(&self) -> Duration {
        self.desk.clock.monotonic()
    }

    async fn validate(&self, request: &ValidateRequest, asked: Duration) -> Result<Answer, Error> {
        let request = token::validate(request, asked)?;
        // Memory answers at once, and is never too busy to; the store is asked by so many at a time.
        let _pass = request.strong.then(|| self.desk.gate.acquire()).transpose()?;
        Ok(Answer::Judged(self.tokens.validate(request).await?))
    }
}

#[tonic::async_trait]
impl TokenService for TokenCalls {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let work = self.desk.take(request)?;
        let deadline = work.deadline;
        let (rules, caller) = (&self.rules.tokens, &work.caller);
        let issued = match token::issue(work.message, deadline)? {
            IssueBy::Password(request) => rules.issue_with_password(caller, request).await?,
            IssueBy::Secret(request) => rules.issue_with_secret(caller, request).await?,
            IssueBy::Exchange(request) => rules.exchange(caller, request).await?,
        };
        Ok(Response::new(IssueResponse {
            tokens: Some(token::tokens(issued)),
        }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        let work = self.desk.take(request)?;
        let asked = token::refresh(work.message);
        let refreshed = self.rules.tokens.refresh(&work.caller, asked).await?;
        Ok(Response::new(token::refreshed(refreshed)))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let work = self.desk.take(request)?;
        let asked = token::revoke(work.message)?;
        let sessions_revoked = self.rules.tokens.revoke(&work.caller, asked).await?;
        Ok(Response::new(RevokeResponse { sessions_revoked }))
    }

    async fn validate(&self, _: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        Err(by_hand())
    }

    async fn validate_batch(
        &self,
        _: Request<ValidateBatchRequest>,
    ) -> Result<Response<ValidateBatchResponse>, Status> {
        Err(by_hand())
    }

    type WatchRevocationsStream = BoxStream<'static, Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let request_id = Call::of(&request)?.request_id().to_owned();
        let resume = request.into_inner().resume_token;
        let rules = self.rules.clone();
        let watch = Watch::start(rules.feed.clone(), &*rules.revocations, &resume).await?;
        let messages = stream::try_unfold(watch, move |mut watch| {
            let rules = rules.clone();
            async move {
                let told = watch.next(&*rules.clock).await?;
                Ok(Some((message(told, &rules), watch)))
            }
        });
        let messages = messages.map(move |message| {
            message.map_err(|error: Error| {
                let status = status(error);
                log(&status, "/countersign.v1.TokenService/WatchRevocations", &request_id);
                status
            })
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn get_keys(&self, _request: Request<GetKeysRequest>) -> Result<Response<GetKeysResponse>, Status> {
        Ok(Response::new(GetKeysResponse {
            keys: Some(key_set(&self.rules.keys.current())),
        }))
    }
}

/// `Services::route` gives these two to `super::validate` before the generated code sees them.
fn by_hand() -> Status {
    Error::internal("Validate came to the generated service").into()
}

fn message(told: Watched, rules: &Rules) -> WatchRevocationsResponse {
    let message = match told {
        Watched::Keys => Message::Keys(key_set(&rules.keys.current())),
        Watched::Snapshot { rows, last } => Message::Snapshot(RevocationList {
            revocations: rows.iter().map(Revocation::from).collect(),
            last,
        }),
        Watched::Event(revocation) => Message::Event(Revocation::from(&*revocation)),
        Watched::Heartbeat { as_of, cursor, now } => Message::Heartbeat(Heartbeat {
            as_of: Some(timestamp(as_of)),
            resume_token: cursor.0,
            now: Some(timestamp(now)),
        }),
    };
    WatchRevocationsResponse { message: Some(message) }
}
