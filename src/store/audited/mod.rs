//! A durable store that tells the structured log of every audit event whose row it has written.
//!
//! The trail has two outlets, the table and the log. Every road to the table leads through here, so neither can be
//! forgotten; and the log is told after the row is durable, so it never tells of what did not happen. The log may drop
//! lines, the table may not: what was not written was not done.

mod clients;
mod keys;
mod revocations;
mod users;

use async_trait::async_trait;
use uuid::Uuid;

use super::accounts::{AuditQuery, AuditStore, Page};
use crate::clock::UnixMillis;
use crate::model::audit::LOG_TARGET;
use crate::model::{AuditEvent, Result};

/// The store `S`, whose audit events the log is told of.
#[derive(Clone, Debug)]
pub struct Audited<S>(S);

impl<S> Audited<S> {
    /// Tells of the events of `store`.
    #[must_use]
    pub const fn new(store: S) -> Self {
        Self(store)
    }
}

#[async_trait]
impl<S: AuditStore> AuditStore for Audited<S> {
    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        self.0.append_audit(event).await?;
        tell(event);
        Ok(())
    }

    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>> {
        self.0.list_audit(query, before, limit).await
    }

    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32> {
        self.0.purge_audit(before, limit).await
    }
}

/// Tells of the event if its row was written; hands on what the store said.
fn tell_if<T>(written: bool, event: &AuditEvent, said: T) -> T {
    if written {
        tell(event);
    }
    said
}

fn tell(event: &AuditEvent) {
    let session_id = event.session_id.map(|id| id.to_string()).unwrap_or_default();
    tracing::info!(
        target: LOG_TARGET,
        event_id = %event.id,
        r#type = %event.kind,
        actor = %event.origin.actor,
        subject = %event.subject,
        client_id = %event.client_id,
        session_id = %session_id,
        ip_address = %event.origin.ip_address,
        outcome = %event.outcome,
        request_id = %event.origin.request_id,
        details = %serde_json::Value::Object(event.details.clone()),
    );
}

#[cfg(test)]
mod tests;
