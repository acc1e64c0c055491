//! `TokenService`.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::{Desk, Rules};
use crate::grpc::convert::key_set;
use crate::grpc::layers::Call;
use crate::grpc::status::{log, status};
use crate::model::{Error, ErrorKind};
use crate::proto::convert::time::timestamp;
use crate::proto::token_service_server::TokenService;
use crate::proto::watch_revocations_response::Message;
use crate::proto::{
    GetKeysRequest, GetKeysResponse, Heartbeat, IssueRequest, IssueResponse, RefreshRequest, RefreshResponse,
    Revocation, RevocationList, RevokeRequest, RevokeResponse, ValidateBatchRequest, ValidateBatchResponse,
    ValidateRequest, ValidateResponse, WatchRevocationsRequest, WatchRevocationsResponse,
};
use crate::revocation::{Watch, Watched};

pub(super) struct TokenCalls {
    desk: Desk,
    rules: Rules,
}

impl TokenCalls {
    pub(super) fn new(desk: Desk, rules: Rules) -> Self {
        Self { desk, rules }
    }
}

#[tonic::async_trait]
impl TokenService for TokenCalls {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let _work = self.desk.take(request)?;
        Err(Error::from(ErrorKind::Unimplemented).into())
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        let _work = self.desk.take(request)?;
        Err(Error::from(ErrorKind::Unimplemented).into())
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let _work = self.desk.take(request)?;
        Err(Error::from(ErrorKind::Unimplemented).into())
    }

    async fn validate(&self, _request: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        Err(Error::from(ErrorKind::Unimplemented).into())
    }

    async fn validate_batch(
        &self,
        _request: Request<ValidateBatchRequest>,
    ) -> Result<Response<ValidateBatchResponse>, Status> {
        Err(Error::from(ErrorKind::Unimplemented).into())
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
