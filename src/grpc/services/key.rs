//! The implementation of `KeyService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Admission;
use crate::grpc::convert::key;
use crate::keys::manager::Keys;
use crate::model::KeyId;
use crate::model::text::check_reason;
use crate::proto::key_service_server::KeyService;
use crate::proto::{
    ListKeysRequest, ListKeysResponse, RevokeKeyRequest, RevokeKeyResponse, RotateKeyRequest, RotateKeyResponse,
};
use crate::revocation::{Feed, RevocationPublisher};

/// `KeyService`: its operations.
pub(crate) struct KeyCalls {
    pub(crate) admission: Admission,
    pub(crate) keys: Arc<Keys>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) publisher: Arc<RevocationPublisher>,
}

#[tonic::async_trait]
impl KeyService for KeyCalls {
    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let _work = self.admission.admit(request)?;
        // The keys of the store may be newer than those that this replica loaded last.
        self.keys.reload().await?;
        Ok(Response::new(ListKeysResponse {
            keys: self.keys.listed().iter().map(key).collect(),
        }))
    }

    async fn rotate_key(&self, request: Request<RotateKeyRequest>) -> Result<Response<RotateKeyResponse>, Status> {
        let work = self.admission.admit(request)?;
        self.feed.check_skew()?;
        let rotated = self.keys.rotate(work.message.force, &work.caller.origin).await?;
        Ok(Response::new(RotateKeyResponse {
            key: Some(key(&rotated)),
        }))
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Result<Response<RevokeKeyResponse>, Status> {
        let work = self.admission.admit(request)?;
        let id = KeyId::parse(&work.message.key_id, "key_id")?;
        let reason = &work.message.reason;
        check_reason(reason)?;
        let (revoked, revocation) = self.keys.revoke(&id, reason, &work.caller.origin).await?;
        if let Some(revocation) = revocation {
            self.publisher.publish(&revocation).await;
        }
        Ok(Response::new(RevokeKeyResponse {
            key: Some(key(&revoked)),
        }))
    }
}
