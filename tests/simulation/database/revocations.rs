//! The database as a replica reaches it: revocations.

use async_trait::async_trait;
use countersign::clock::UnixMillis;
use countersign::model::revocation::RevocationSubject;
use countersign::model::{AuditEvent, Level, Result, Revocation};
use countersign::store::{Changes, Cursor, NewRevocation, Recorded, RevocationStore, Snapshot};

use super::SimDatabase;
use crate::mutants::Mutant;

#[async_trait]
impl RevocationStore for SimDatabase {
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded> {
        let (real, new, audit) = (self.real.clone(), self.mutated(new, audit), audit.clone());
        let effect = async move { real.revoke(&new, &audit).await };
        self.link.call_or_late("revoke", effect).await
    }

    async fn revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>> {
        self.link.call("revoked", self.real.revoked(subjects)).await
    }

    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot> {
        self.link
            .call("load_revocations", self.real.load_revocations(since))
            .await
    }

    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes> {
        let changes = self.link.call("revocations_since", self.real.revocations_since(cursor));
        Ok(match changes.await? {
            Changes::Since(snapshot) if self.mutant == Some(Mutant::FeedMissesRevocations) => {
                Changes::Since(Snapshot {
                    rows: Vec::new(),
                    ..snapshot
                })
            }
            changes @ (Changes::Since(_) | Changes::Reload(_)) => changes,
        })
    }

    async fn write_back(&self, lost: &[Revocation], audit: &AuditEvent) -> Result<Vec<(Level, u64)>> {
        if self.mutant == Some(Mutant::NothingWrittenBack) {
            return Ok(Vec::new());
        }
        self.link.call("write_back", self.real.write_back(lost, audit)).await
    }

    fn reconnect(&self) {
        self.real.reconnect();
    }

    async fn purge_revocations(&self, limit: u32) -> Result<u32> {
        self.link
            .call("purge_revocations", self.real.purge_revocations(limit))
            .await
    }

    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)> {
        self.link.call("era", self.real.era()).await
    }

    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64> {
        self.link
            .call("store_counters", self.real.store_counters(counters, lost, seen))
            .await
    }

    async fn note_session_life(&self, life: std::time::Duration) -> Result<()> {
        self.link
            .call("note_session_life", self.real.note_session_life(life))
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.link.call("ping", self.real.ping()).await
    }

    fn takes_writes(&self) -> bool {
        self.real.takes_writes()
    }
}
