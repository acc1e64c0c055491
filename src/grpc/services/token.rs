//! `TokenService`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::Admission;
use super::validate::{AnswerValidate, batch};
use super::verdicts::count_login;
use crate::clock::Clock;
use crate::grpc::convert::answer::ValidateAnswer;
use crate::grpc::convert::key_set;
use crate::grpc::convert::token::{self, IssueBy};
use crate::grpc::layers::Call;
use crate::grpc::status::{log, status};
use crate::keys::manager::Keys;
use crate::model::{Error, Grant};
use crate::proto::convert::time::timestamp;
use crate::proto::token_service_server::TokenService;
use crate::proto::watch_revocations_response::Message;
use crate::proto::{
    GetKeysRequest, GetKeysResponse, Heartbeat, IssueRequest, IssueResponse, RefreshRequest, RefreshResponse,
    Revocation, RevocationList, RevokeRequest, RevokeResponse, ValidateBatchRequest, ValidateBatchResponse,
    ValidateRequest, ValidateResponse, WatchRevocationsRequest, WatchRevocationsResponse,
};
use crate::revocation::{Feed, Watch, WatchEvent};
use crate::store::RevocationStore;
use crate::token::{ClientSecretIssuer, PasswordIssuer, Refresher, Revoker, ServiceValidator, TokenExchanger};

/// Validate and `ValidateBatch`: their operation.
pub(crate) struct ValidateCalls {
    pub(crate) admission: Admission,
    pub(crate) validator: Arc<ServiceValidator>,
}

impl AnswerValidate for ValidateCalls {
    fn validate_cached(&self, request: &ValidateRequest) -> Option<ValidateAnswer> {
        let request = token::validate(request, Duration::ZERO).ok()?;
        self.validator.validate_cached(request).map(ValidateAnswer::Local)
    }

    fn monotonic_now(&self) -> Duration {
        self.validator.monotonic_now()
    }

    async fn validate(&self, request: &ValidateRequest, asked: Duration) -> Result<ValidateAnswer, Error> {
        let request = token::validate(request, asked)?;
        // An answer from memory is never refused for load; a strong one needs the store, and a permit.
        let _permit = request.strong.then(|| self.admission.permit()).transpose()?;
        Ok(ValidateAnswer::Local(self.validator.validate(request).await?))
    }
}

/// `TokenService`: its operations.
pub(crate) struct TokenCalls {
    pub(crate) admission: Admission,
    pub(crate) password: Arc<PasswordIssuer>,
    pub(crate) client_secret: Arc<ClientSecretIssuer>,
    pub(crate) exchanger: Arc<TokenExchanger>,
    pub(crate) refresher: Arc<Refresher>,
    pub(crate) revoker: Arc<Revoker>,
    pub(crate) validate: Arc<ValidateCalls>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) watch: WatchSource,
}

/// What a watcher of revocations reads from.
#[derive(Clone)]
pub(crate) struct WatchSource {
    pub(crate) feed: Arc<Feed>,
    pub(crate) store: Arc<dyn RevocationStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl TokenService for TokenCalls {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let work = self.admission.admit(request)?;
        let caller = &work.caller;
        let (grant, issued) = match token::issue(work.message, work.deadline)? {
            IssueBy::Password(request) => (Grant::Password, self.password.issue(caller, request).await),
            IssueBy::Secret(request) => (Grant::ClientSecret, self.client_secret.issue(caller, request).await),
            IssueBy::Exchange(request) => (Grant::Exchange, self.exchanger.exchange(caller, request).await),
        };
        count_login(grant, &issued);
        Ok(Response::new(IssueResponse {
            tokens: Some(token::tokens(issued?)),
        }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        let deadline = self.admission.deadline(Call::of(&request)?);
        let work = self.admission.admit(request)?;
        let request = token::refresh(work.message);
        let refreshed = self.refresher.refresh(&work.caller, request, deadline).await?;
        Ok(Response::new(token::refreshed(refreshed)))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let work = self.admission.admit(request)?;
        let request = token::revoke(work.message)?;
        if request.target.ends_later_sessions() {
            self.admission.check_current()?;
        }
        let sessions_revoked = self.revoker.revoke(&work.caller, request).await?;
        Ok(Response::new(RevokeResponse { sessions_revoked }))
    }

    // `Services::route` serves this method and the next one with their own codec; the answers are the same here.
    async fn validate(&self, request: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        let (calls, asked) = (&self.validate, self.validate.monotonic_now());
        let answer = calls.validate(request.get_ref(), asked).await?;
        Ok(Response::new(answer.into_response()))
    }

    async fn validate_batch(
        &self,
        request: Request<ValidateBatchRequest>,
    ) -> Result<Response<ValidateBatchResponse>, Status> {
        let answers = batch(&self.validate, request.into_inner().requests).await?;
        let responses = answers.into_iter().map(ValidateAnswer::into_response).collect();
        Ok(Response::new(ValidateBatchResponse { responses }))
    }

    type WatchRevocationsStream = BoxStream<'static, Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let request_id = Call::of(&request)?.request_id().to_owned();
        let resume = request.into_inner().resume_token;
        let WatchSource { feed, store, clock } = self.watch.clone();
        let keys = Arc::clone(&self.keys);
        let watch = Watch::start(feed, &*store, &resume).await?;
        let messages = stream::try_unfold(watch, move |mut watch| {
            let (clock, keys) = (Arc::clone(&clock), Arc::clone(&keys));
            async move {
                let event = watch.next(&*clock).await?;
                Ok(Some((message(event, &keys), watch)))
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
            keys: Some(key_set(&self.keys.current())),
        }))
    }
}

fn message(event: WatchEvent, keys: &Keys) -> WatchRevocationsResponse {
    let message = match event {
        WatchEvent::Keys => Message::Keys(key_set(&keys.current())),
        WatchEvent::Snapshot { rows, last } => Message::Snapshot(RevocationList {
            revocations: rows.iter().map(Revocation::from).collect(),
            last,
        }),
        WatchEvent::Revocation(revocation) => Message::Event(Revocation::from(&*revocation)),
        WatchEvent::Heartbeat { as_of, cursor, now } => Message::Heartbeat(Heartbeat {
            as_of: Some(timestamp(as_of)),
            resume_token: cursor.0,
            now: Some(timestamp(now)),
        }),
    };
    WatchRevocationsResponse { message: Some(message) }
}
