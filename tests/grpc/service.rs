//! A token service that follows instructions in the request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::grpc::layers::Call;
use countersign::proto;
use countersign::proto::token_service_server::TokenService;
use futures_util::stream::{BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::server::Observed;

/// Follows the instruction in the refresh token of `Refresh`.
pub(crate) struct Service(pub(crate) Arc<Observed>);

/// Counts as dropped unless the second field says that the sleep ended.
struct Sleep<'a>(&'a Observed, bool);

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tonic::async_trait]
impl TokenService for Service {
    async fn issue(&self, request: Request<proto::IssueRequest>) -> Result<Response<proto::IssueResponse>, Status> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let caller = Call::of(&request)?.caller();
        // Returns what the service received, in text fields of the response.
        let tokens = proto::Tokens {
            session_id: caller.origin.request_id,
            token_type: caller.origin.ip_address,
            access_token: format!("{:?}", request.metadata()),
            ..proto::Tokens::default()
        };
        Ok(Response::new(proto::IssueResponse { tokens: Some(tokens) }))
    }

    async fn refresh(
        &self,
        request: Request<proto::RefreshRequest>,
    ) -> Result<Response<proto::RefreshResponse>, Status> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        match request.get_ref().refresh_token.split_once(' ') {
            Some(("sleep", millis)) => {
                let mut sleep = Sleep(&self.0, false);
                tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await;
                sleep.1 = true;
            }
            Some(("panic", why)) => panic!("as instructed: {why}"),
            Some(("fail", _)) => {
                return Err(countersign::model::Error::store_unavailable("canary-private").into());
            }
            _ => {}
        }
        Ok(Response::new(proto::RefreshResponse::default()))
    }

    async fn revoke(&self, _: Request<proto::RevokeRequest>) -> Result<Response<proto::RevokeResponse>, Status> {
        Ok(Response::new(proto::RevokeResponse::default()))
    }

    async fn validate(&self, _: Request<proto::ValidateRequest>) -> Result<Response<proto::ValidateResponse>, Status> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(proto::ValidateResponse::default()))
    }

    async fn validate_batch(
        &self,
        _: Request<proto::ValidateBatchRequest>,
    ) -> Result<Response<proto::ValidateBatchResponse>, Status> {
        Ok(Response::new(proto::ValidateBatchResponse::default()))
    }

    type WatchRevocationsStream = BoxStream<'static, Result<proto::WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        request: Request<proto::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        if let Some(feed) = self.0.feed.lock().unwrap().clone() {
            let messages = feed(&request.get_ref().resume_token);
            return Ok(Response::new(messages.map(Ok).boxed()));
        }
        let beats = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok(proto::WatchRevocationsResponse::default()), ()))
        });
        Ok(Response::new(Box::pin(beats)))
    }

    async fn get_keys(&self, _: Request<proto::GetKeysRequest>) -> Result<Response<proto::GetKeysResponse>, Status> {
        Ok(Response::new(proto::GetKeysResponse::default()))
    }
}
