//! `KeyService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{Desk, Rules};
use crate::grpc::convert::key;
use crate::keys::manager::Keys;
use crate::model::{Error, ErrorKind};
use crate::proto::key_service_server::KeyService;
use crate::proto::{
    ListKeysRequest, ListKeysResponse, RevokeKeyRequest, RevokeKeyResponse, RotateKeyRequest, RotateKeyResponse,
};

pub(super) struct KeyCalls {
    desk: Desk,
    keys: Arc<Keys>,
}

impl KeyCalls {
    pub(super) fn new(desk: Desk, rules: &Rules) -> Self {
        Self {
            desk,
            keys: rules.keys.clone(),
        }
    }
}

#[tonic::async_trait]
impl KeyService for KeyCalls {
    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let _work = self.desk.take(request)?;
        // What the store holds, not what this replica loaded last.
        self.keys.reload().await?;
        Ok(Response::new(ListKeysResponse {
            keys: self.keys.listed().iter().map(key).collect(),
        }))
    }

    async fn rotate_key(&self, request: Request<RotateKeyRequest>) -> Result<Response<RotateKeyResponse>, Status> {
        let _work = self.desk.take(request)?;
        Err(Error::from(ErrorKind::Unimplemented).into())
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Result<Response<RevokeKeyResponse>, Status> {
        let _work = self.desk.take(request)?;
        Err(Error::from(ErrorKind::Unimplemented).into())
    }
}
