//! The implementation of `AuditService`.

use tonic::{Request, Response, Status};

use super::{Desk, Rules};
use crate::account::AuditTrail;
use crate::grpc::convert::{audit_event, audit_request};
use crate::proto::audit_service_server::AuditService;
use crate::proto::{ListAuditEventsRequest, ListAuditEventsResponse};

pub(super) struct AuditCalls {
    desk: Desk,
    trail: AuditTrail,
}

impl AuditCalls {
    pub(super) fn new(desk: Desk, rules: &Rules) -> Self {
        Self {
            desk,
            trail: rules.trail.clone(),
        }
    }
}

#[tonic::async_trait]
impl AuditService for AuditCalls {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let work = self.desk.take(request)?;
        let principal = work.principal();
        let page = self.trail.list(&principal, audit_request(work.message)?).await?;
        Ok(Response::new(ListAuditEventsResponse {
            events: page.items.into_iter().map(audit_event).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}
