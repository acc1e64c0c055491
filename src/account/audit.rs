//! The audit trail: one road for every event, and reading it back.

use std::sync::Arc;

use uuid::Uuid;

use super::{Listing, Principal, fields, paging};
use crate::clock::{Clock, UnixMillis};
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Error, Result};
use crate::secret::Entropy;
use crate::store::{AuditQuery, AuditStore};

/// Makes audit events and sees them into the trail.
///
/// An event that belongs to a change is handed to the store with it, so that neither is without the other; an event of its
/// own goes through [`Trail::append`].
#[derive(Clone)]
pub struct Trail {
    store: Arc<dyn AuditStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Trail {
    /// A trail that is kept in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn AuditStore>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, clock, entropy }
    }

    /// A successful event of now; add to it with its `with_` methods.
    #[must_use]
    pub fn event(&self, kind: AuditType, subject: &impl ToString, origin: &Origin) -> AuditEvent {
        AuditEvent::new(kind, subject, origin, self.clock.now(), self.entropy.as_ref())
    }

    /// Writes an event that belongs to no other change.
    pub async fn append(&self, event: &AuditEvent) -> Result<()> {
        self.store.append_audit(event).await
    }

    /// Events, newest first.
    pub async fn list(&self, principal: &Principal, request: AuditRequest) -> Result<Listing<AuditEvent>> {
        principal.require("countersign:audit")?;
        let limit = paging::size(request.page_size)?;
        let query = request.query()?;
        let place = request.place();
        let before: Option<Uuid> = place.key(&request.page_token)?;
        let page = self.store.list_audit(&query, before, limit).await?;
        Ok(Listing::of(page, &place))
    }
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trail")
    }
}

/// Which events of the trail, and which page of them. Empty fields are not looked at.
#[derive(Clone, Debug, Default)]
pub struct AuditRequest {
    /// 0 means 50; at most 1,000.
    pub page_size: i32,
    /// Of the page before.
    pub page_token: String,
    /// On whom: a user's, client's or key's id.
    pub subject: String,
    /// Of which type; one that ends in `.` or `*` is a prefix.
    pub kind: String,
    /// Not before.
    pub since: Option<UnixMillis>,
    /// Before.
    pub until: Option<UnixMillis>,
}

impl AuditRequest {
    fn query(&self) -> Result<AuditQuery> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && until < since
        {
            return Err(Error::invalid("until", "must not be before `since`"));
        }
        Ok(AuditQuery {
            subject: fields::text(&self.subject, "subject")?,
            kind: fields::text(&self.kind, "type")?,
            since: self.since,
            until: self.until,
        })
    }

    fn place(&self) -> paging::Query {
        let moment = |at: Option<UnixMillis>| at.map(|at| at.0.to_string()).unwrap_or_default();
        paging::Query::new(
            "audit",
            &[&self.subject, &self.kind, &moment(self.since), &moment(self.until)],
        )
    }
}
