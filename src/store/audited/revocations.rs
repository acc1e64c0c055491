use std::time::Duration;

use async_trait::async_trait;

use super::{Audited, tell};
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Result};
use crate::store::revocations::{Changes, Cursor, NewRevocation, Recorded, RevocationStore, Snapshot};

#[async_trait]
impl<S: RevocationStore> RevocationStore for Audited<S> {
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded> {
        let recorded = self.0.revoke(new, audit).await?;
        if recorded.new {
            tell(audit);
        }
        Ok(recorded)
    }

    async fn revoked(&self, revocation_subject: &[RevocationSubject]) -> Result<Vec<bool>> {
        self.0.revoked(revocation_subject).await
    }

    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot> {
        self.0.load_revocations(since).await
    }

    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes> {
        self.0.revocations_since(cursor).await
    }

    async fn purge_revocations(&self, limit: u32) -> Result<u32> {
        self.0.purge_revocations(limit).await
    }

    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)> {
        self.0.era().await
    }

    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64> {
        let era = self.0.store_counters(counters, lost, seen).await?;
        // A replica that raised it at the same moment tells as well: two lines for one row, never none.
        if let Some(event) = lost
            && era == seen + 1
        {
            tell(event);
        }
        Ok(era)
    }

    async fn note_session_life(&self, life: Duration) -> Result<()> {
        self.0.note_session_life(life).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}
