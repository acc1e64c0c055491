//! Audit events of token operations.

use std::sync::Arc;

use crate::clock::Clock;
use crate::model::{AuditEvent, AuditType, Caller};
use crate::secret::Entropy;
use crate::store::AuditStore;

/// Creates the audit events of token operations, and writes those that belong to no other change of the store.
///
/// The rules of accounts have a type of their own, `account::audit::AuditTrail`: neither module may import the other.
/// That one also lists events; this one also writes those without a change.
#[derive(Clone)]
pub struct AuditWriter {
    store: Arc<dyn AuditStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for AuditWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditWriter")
    }
}

impl AuditWriter {
    /// A writer to `store`.
    #[must_use]
    pub fn new(store: Arc<dyn AuditStore>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, clock, entropy }
    }

    /// A successful event of this moment, caused by `caller`.
    pub(super) fn event(&self, kind: AuditType, subject: &impl ToString, caller: &Caller) -> AuditEvent {
        AuditEvent::new(kind, subject, &caller.origin, self.clock.now(), &*self.entropy)
    }

    /// Writes an event of a refused request. The request changed nothing, so a failure to write is only logged: it does
    /// not turn the answer into an outage.
    pub(super) async fn append_best_effort(&self, event: &AuditEvent) {
        if let Err(error) = self.store.append_audit(event).await {
            let request_id = &event.origin.request_id;
            tracing::warn!(request_id, %error, kind = event.kind, "cannot write an audit event; the event is lost");
        }
    }
}
