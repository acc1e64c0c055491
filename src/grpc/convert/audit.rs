//! Audit events as messages.

use super::optional_moment;
use crate::account::audit::AuditRequest;
use crate::model::{AuditEvent, Result};
use crate::proto;
use crate::proto::convert::json::to_struct;
use crate::proto::convert::time::timestamp;

/// Converts an event.
#[must_use]
pub fn audit_event(event: AuditEvent) -> proto::AuditEvent {
    proto::AuditEvent {
        event_id: event.id.to_string(),
        time: Some(timestamp(event.time)),
        r#type: event.kind,
        actor: event.origin.actor,
        subject: event.subject,
        client_id: event.client_id,
        session_id: event.session_id.map(|id| id.to_string()).unwrap_or_default(),
        ip_address: event.origin.ip_address,
        outcome: event.outcome,
        request_id: event.origin.request_id,
        details: Some(to_struct(&event.details)),
    }
}

/// Converts a request for events.
pub fn audit_request(request: proto::ListAuditEventsRequest) -> Result<AuditRequest> {
    Ok(AuditRequest {
        page_size: request.page_size,
        page_token: request.page_token,
        subject: request.subject,
        kind: request.r#type,
        since: optional_moment(request.since.as_ref(), "since")?,
        until: optional_moment(request.until.as_ref(), "until")?,
    })
}
