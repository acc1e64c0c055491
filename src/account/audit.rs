//! The audit trail: creating events and listing them.

use std::sync::Arc;

use uuid::Uuid;

use super::{ListPage, Principal, fields, paging};
use crate::clock::{Clock, UnixMillis};
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, CallerScope, Error, Result};
use crate::secret::Entropy;
use crate::store::{AuditQuery, AuditStore};

/// Creates audit events and lists them.
///
/// An event about a change goes to the store in the same call as the change, so that one transaction writes both.
///
/// The rules of tokens have a type of their own, `token::audit::AuditWriter`, because neither module may import the
/// other.
#[derive(Clone)]
pub struct AuditTrail {
    store: Arc<dyn AuditStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl AuditTrail {
    /// An audit trail that is kept in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn AuditStore>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, clock, entropy }
    }

    /// A new successful event with the current time. Its `with_` methods add details.
    #[must_use]
    pub fn event(&self, kind: AuditType, subject: &impl ToString, origin: &Origin) -> AuditEvent {
        AuditEvent::new(kind, subject, origin, self.clock.now(), self.entropy.as_ref())
    }

    /// Lists events, newest first.
    pub async fn list(&self, principal: &Principal, request: AuditRequest) -> Result<ListPage<AuditEvent>> {
        principal.require(CallerScope::Audit)?;
        let limit = paging::size(request.page_size)?;
        let filter = request.filter()?;
        let query = request.list_query();
        let before: Option<Uuid> = query.page_key(&request.page_token)?;
        let page = self.store.list_audit(&filter, before, limit).await?;
        Ok(ListPage::of(page, &query))
    }
}

impl std::fmt::Debug for AuditTrail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditTrail")
    }
}

/// Which events to list, and which page of them. An empty field does not filter.
#[derive(Clone, Debug, Default)]
pub struct AuditRequest {
    /// Events on a page: 0 means 50, more than 1,000 means 1,000.
    pub page_size: i32,
    /// The token that the previous page returned; empty for the first page.
    pub page_token: String,
    /// The id of the user, client or key that the event is about.
    pub subject: String,
    /// The type of the event. A value that ends in `.` or `*` is a prefix.
    pub kind: String,
    /// The earliest time, inclusive.
    pub since: Option<UnixMillis>,
    /// The latest time, exclusive.
    pub until: Option<UnixMillis>,
}

impl AuditRequest {
    fn filter(&self) -> Result<AuditQuery> {
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

    fn list_query(&self) -> paging::ListQuery {
        let text = |time: Option<UnixMillis>| time.map(|time| time.0.to_string()).unwrap_or_default();
        paging::ListQuery::new(
            "audit",
            &[&self.subject, &self.kind, &text(self.since), &text(self.until)],
        )
    }
}
