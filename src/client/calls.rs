//! Typed calls of the service.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::builder::Builder;
use super::credential::Bearer;
use super::retry::{Budget, RetryPolicy, retry_delay};
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

/// The largest accepted response, in bytes: a batch of 256 results with claims.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// A client of Countersign. Cheap to clone; clones share the connection, the retry budget and the client's own token.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// The host and port of the service, for the log.
    pub(super) address: String,
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
    /// A builder of a client for the service at `url` (`http://…` or `https://…`).
    #[must_use]
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// The host and port of the service, for the log.
    pub(crate) fn address(&self) -> &str {
        &self.inner.address
    }

    /// Logs a user in; the returned session keeps the tokens fresh.
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

    /// Issues tokens. Never retried, because a call with a lost response may have created a session.
    pub async fn issue(&self, request: IssueRequest) -> Result<Tokens, Status> {
        let response = self
            .once(request, |mut stub, request| async move { stub.issue(request).await })
            .await?;
        Ok(response.tokens.unwrap_or_default())
    }

    /// Refreshes tokens. Retries carry the same `attempt_id`, so after a lost response the service answers with the same
    /// successor token. An empty `attempt_id` is filled in.
    pub async fn refresh(&self, mut request: RefreshRequest) -> Result<RefreshResponse, Status> {
        if request.attempt_id.is_empty() {
            let id = crate::model::new_uuid(self.inner.clock.now(), &*self.inner.entropy);
            request.attempt_id = id.simple().to_string();
        }
        self.retried(request, |mut stub, request| async move { stub.refresh(request).await })
            .await
    }

    /// Ends the session of a refresh or access token; returns how many sessions ended.
    pub async fn revoke_token(&self, token: &str) -> Result<u32, Status> {
        self.revoke(RevokeRequest {
            target: Some(revoke_request::Target::Token(token.to_owned())),
            ..RevokeRequest::default()
        })
        .await
    }

    /// Revokes the target of the request; returns how many sessions are known to have ended.
    pub async fn revoke(&self, request: RevokeRequest) -> Result<u32, Status> {
        let response = self
            .retried(request, |mut stub, request| async move { stub.revoke(request).await })
            .await?;
        Ok(response.sessions_revoked)
    }

    /// Validates an access token. An inactive token is a response, not an error.
    pub async fn validate(&self, token: &str, audience: &str, scopes: &[&str]) -> Result<ValidateResponse, Status> {
        let request = ValidateRequest {
            access_token: token.to_owned(),
            audience: audience.to_owned(),
            required_scopes: scopes.iter().map(ToString::to_string).collect(),
            ..ValidateRequest::default()
        };
        self.ask(request).await
    }

    /// Like [`Client::validate`], with all fields of the request.
    pub async fn ask(&self, request: ValidateRequest) -> Result<ValidateResponse, Status> {
        self.retried(request, |mut stub, request| async move { stub.validate(request).await })
            .await
    }

    /// Calls Envoy's `Check`.
    #[cfg(feature = "server")]
    pub(crate) async fn check(&self, request: CheckRequest) -> Result<CheckResponse, Status> {
        self.retried(request, |_, request| {
            let mut stub = AuthorizationClient::new(self.inner.channel.clone());
            async move { stub.check(request).await }
        })
        .await
    }

    /// Validates up to 256 tokens in one call; the responses are in the order of the requests.
    pub async fn validate_batch(&self, requests: Vec<ValidateRequest>) -> Result<Vec<ValidateResponse>, Status> {
        let request = ValidateBatchRequest { requests };
        let response = self
            .retried(request, |mut stub, request| async move {
                stub.validate_batch(request).await
            })
            .await?;
        Ok(response.responses)
    }

    /// Fetches the keys that verify tokens.
    pub async fn keys(&self) -> Result<KeySet, Status> {
        let response = self
            .retried(GetKeysRequest {}, |mut stub, request| async move {
                stub.get_keys(request).await
            })
            .await?;
        Ok(response.keys.unwrap_or_default())
    }

    /// Watches revocations and keys, from the position of a resume token or, if it is empty, from a snapshot. Has no deadline.
    pub async fn watch(&self, resume_token: String) -> Result<tonic::Streaming<WatchRevocationsResponse>, Status> {
        let (mut request, token) = self.authorized(WatchRevocationsRequest { resume_token }).await?;
        request.metadata_mut().remove("grpc-timeout");
        match self.stub().watch_revocations(request).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => {
                self.drop_refused_token(&status, token.as_ref());
                Err(status)
            }
        }
    }

    /// The access token with which this client authenticates, renewed if needed; `None` without a credential.
    pub async fn own_token(&self) -> Result<Option<SecretText>, Status> {
        self.inner.bearer.token().await
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
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
            Ok(response) => {
                self.inner.budget.record_success();
                Ok(response.into_inner())
            }
            Err(status) => {
                self.drop_refused_token(&status, token.as_ref());
                Err(status)
            }
        }
    }

    /// Drops the client's own token if the service refused it.
    fn drop_refused_token(&self, status: &Status, token: Option<&SecretText>) {
        if let (Code::Unauthenticated, Some(token)) = (status.code(), token) {
            self.inner.bearer.forget(token);
        }
    }

    /// Calls, and retries failures that a retry may mend, within the retry budget.
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
                Ok(response) => return Ok(response),
                Err(status) => status,
            };
            attempt += 1;
            let Some(wait) = retry_delay(&self.inner.retry, &status, attempt, &*self.inner.entropy) else {
                return Err(status);
            };
            if !self.inner.budget.spend(&status) {
                return Err(status);
            }
            tokio::time::sleep(wait).await;
        }
    }
}
