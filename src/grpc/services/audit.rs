//! The implementation of `AuditService`.

use tonic::{Request, Response, Status};

use super::Admission;
use crate::account::AuditTrail;
use crate::grpc::convert::{audit_event, audit_request};
use crate::proto::audit_service_server::AuditService;
use crate::proto::{ListAuditEventsRequest, ListAuditEventsResponse};

/// `AuditService`: its operations.
pub(crate) struct AuditCalls {
    pub(crate) admission: Admission,
    pub(crate) trail: AuditTrail,
}

#[tonic::async_trait]
impl AuditService for AuditCalls {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let work = self.admission.admit(request)?;
        let principal = work.principal();
        let page = self.trail.list(&principal, audit_request(work.message)?).await?;
        Ok(Response::new(ListAuditEventsResponse {
            events: page.items.into_iter().map(audit_event).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}
