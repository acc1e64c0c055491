//! Typed calls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::builder::Builder;
use super::credential::Bearer;
use super::retry::{Budget, RetryPolicy, delay};
use super::session::Session;
use crate::clock::Clock;
#[cfg(feature = "server")]
use crate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse, authorization_client::AuthorizationClient};
use crate::proto::token_service_client::TokenServiceClient;
use crate::proto::{
    GetKeysRequest, IssueRequest, KeySet, PasswordCredential, RefreshRequest, RefreshResponse, RevokeRequest, Tokens,
    ValidateBatchRequest, ValidateRequest, ValidateResponse, WatchRevocationsRequest, WatchRevocationsResponse,
    issue_request, revoke_request,
};
use crate::secret::{Entropy, SecretText};

/// The largest answer that is read, in bytes: a batch of 256 with claims.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// A client of Countersign. Cheap to clone; clones share the connection, the retry budget and the own token.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) channel: Channel,
    pub(super) bearer: Arc<Bearer>,
    pub(super) budget: Budget,
    pub(super) retry: RetryPolicy,
    pub(super) deadline: Duration,
    pub(super) client_id: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Client {
    /// A client of the service at `url` (`http://…` or `https://…`).
    #[must_use]
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Logs a person in and keeps their tokens fresh.
    pub async fn log_in(&self, username: &str, password: &str) -> Result<Session, Status> {
        let tokens = self
            .issue(IssueRequest {
                client_id: self.inner.client_id.clone(),
                credential: Some(issue_request::Credential::Password(PasswordCredential {
                    username: username.to_owned(),
                    password: password.to_owned(),
                })),
                ..IssueRequest::default()
            })
            .await?;
        Ok(Session::new(self.clone(), tokens))
    }

    /// Issues tokens. Not tried again: a lost reply may have made a session.
    pub async fn issue(&self, request: IssueRequest) -> Result<Tokens, Status> {
        let answer = self
            .once(request, |mut stub, request| async move { stub.issue(request).await })
            .await?;
        Ok(answer.tokens.unwrap_or_default())
    }

    /// Refreshes. Tried again as one attempt, so that a lost reply is answered with the same successor; an empty
    /// `attempt_id` is filled in.
    pub async fn refresh(&self, mut request: RefreshRequest) -> Result<RefreshResponse, Status> {
        if request.attempt_id.is_empty() {
            let id = crate::model::new_uuid(self.inner.clock.now(), &*self.inner.entropy);
            request.attempt_id = id.simple().to_string();
        }
        self.retried(request, |mut stub, request| async move { stub.refresh(request).await })
            .await
    }

    /// Ends the session of a refresh or access token; how many sessions ended.
    pub async fn revoke_token(&self, token: &str) -> Result<u32, Status> {
        self.revoke(RevokeRequest {
            target: Some(revoke_request::Target::Token(token.to_owned())),
            ..RevokeRequest::default()
        })
        .await
    }

    /// Revokes; how many sessions are known to have ended.
    pub async fn revoke(&self, request: RevokeRequest) -> Result<u32, Status> {
        let answer = self
            .retried(request, |mut stub, request| async move { stub.revoke(request).await })
            .await?;
        Ok(answer.sessions_revoked)
    }

    /// Whether an access token is good. An inactive one is an answer, not an error.
    pub async fn validate(&self, token: &str, audience: &str, scopes: &[&str]) -> Result<ValidateResponse, Status> {
        let request = ValidateRequest {
            access_token: token.to_owned(),
            audience: audience.to_owned(),
            required_scopes: scopes.iter().map(ToString::to_string).collect(),
            ..ValidateRequest::default()
        };
        self.ask(request).await
    }

    /// As [`Client::validate`], with all that can be asked.
    pub async fn ask(&self, request: ValidateRequest) -> Result<ValidateResponse, Status> {
        self.retried(request, |mut stub, request| async move { stub.validate(request).await })
            .await
    }

    /// What Envoy would be told of a request.
    #[cfg(feature = "server")]
    pub(crate) async fn check(&self, request: CheckRequest) -> Result<CheckResponse, Status> {
        self.retried(request, |_, request| {
            let mut stub = AuthorizationClient::new(self.inner.channel.clone());
            async move { stub.check(request).await }
        })
        .await
    }

    /// Up to 256 tokens at once, answered in their order.
    pub async fn validate_batch(&self, requests: Vec<ValidateRequest>) -> Result<Vec<ValidateResponse>, Status> {
        let request = ValidateBatchRequest { requests };
        let answer = self
            .retried(request, |mut stub, request| async move {
                stub.validate_batch(request).await
            })
            .await?;
        Ok(answer.responses)
    }

    /// The keys that tokens are verified with.
    pub async fn keys(&self) -> Result<KeySet, Status> {
        let answer = self
            .retried(GetKeysRequest {}, |mut stub, request| async move {
                stub.get_keys(request).await
            })
            .await?;
        Ok(answer.keys.unwrap_or_default())
    }

    /// The feed of revocations, from a resume token's place or from the start. Has no deadline.
    pub async fn watch(&self, resume_token: String) -> Result<tonic::Streaming<WatchRevocationsResponse>, Status> {
        let (mut request, token) = self.authorized(WatchRevocationsRequest { resume_token }).await?;
        request.metadata_mut().remove("grpc-timeout");
        match self.stub().watch_revocations(request).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => {
                self.refused(&status, token.as_ref());
                Err(status)
            }
        }
    }

    /// The token that this client proves itself with, fresh; none if it has nothing to prove.
    pub async fn own_token(&self) -> Result<Option<SecretText>, Status> {
        self.inner.bearer.token().await
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.inner.entropy
    }

    fn stub(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.inner.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    async fn authorized<T>(&self, message: T) -> Result<(Request<T>, Option<SecretText>), Status> {
        let token = self.own_token().await?;
        let mut request = Request::new(message);
        request.set_timeout(self.inner.deadline);
        if let Some(token) = &token {
            let mut value: tonic::metadata::AsciiMetadataValue = format!("Bearer {}", token.expose())
                .parse()
                .map_err(|_| Status::invalid_argument("the client's own token is not ASCII"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok((request, token))
    }

    async fn once<T, R, F>(
        &self,
        message: T,
        call: impl FnOnce(TokenServiceClient<Channel>, Request<T>) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let (request, token) = self.authorized(message).await?;
        match call(self.stub(), request).await {
            Ok(answer) => {
                self.inner.budget.succeeded();
                Ok(answer.into_inner())
            }
            Err(status) => {
                self.refused(&status, token.as_ref());
                Err(status)
            }
        }
    }

    /// An own token that the service does not take is not sent again.
    fn refused(&self, status: &Status, token: Option<&SecretText>) {
        if let (Code::Unauthenticated, Some(token)) = (status.code(), token) {
            self.inner.bearer.forget(token);
        }
    }

    /// Calls, and tries again what may be repeated, within the budget.
    async fn retried<T, R, F>(
        &self,
        message: T,
        call: impl Fn(TokenServiceClient<Channel>, Request<T>) -> F,
    ) -> Result<R, Status>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempt = 1;
        loop {
            let status = match self.once(message.clone(), &call).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            attempt += 1;
            let Some(wait) = delay(&self.inner.retry, &status, attempt, &*self.inner.entropy) else {
                return Err(status);
            };
            if !self.inner.budget.failed(&status) {
                return Err(status);
            }
            tokio::time::sleep(wait).await;
        }
    }
}
