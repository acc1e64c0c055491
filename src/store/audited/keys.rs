use async_trait::async_trait;
use uuid::Uuid;

use super::{Audited, tell, tell_if};
use crate::model::{AuditEvent, KeyId, Result, Revocation};
use crate::store::keys::{KeyRows, KeyStore, SecretPurpose, SecretRow, SigningRow};

#[async_trait]
impl<S: KeyStore> KeyStore for Audited<S> {
    async fn load_keys(&self) -> Result<KeyRows> {
        self.0.load_keys().await
    }

    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows> {
        let stored = self.0.ensure_keys(proposed, audit).await?;
        // Everything proposed is fresh and random: if any of it is stored, this call stored it.
        let added = proposed.signing.iter().any(|row| stored.signing.contains(row))
            || proposed.secrets.iter().any(|row| stored.secrets.contains(row))
            || proposed.checks.iter().any(|row| stored.checks.contains(row));
        Ok(tell_if(added, audit, stored))
    }

    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let added = self.0.add_pending_key(key, audit).await?;
        Ok(tell_if(added, audit, added))
    }

    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let added = self.0.import_key(key, audit).await?;
        Ok(tell_if(added, audit, added))
    }

    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool> {
        let won = self.0.activate_key(id, active, audit).await?;
        Ok(tell_if(won, audit, won))
    }

    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)> {
        let (key, revocation) = self.0.revoke_key(id, standby, audit).await?;
        Ok(tell_if(revocation.is_some(), audit, (key, revocation)))
    }

    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool> {
        let removed = self.0.remove_key(id, audit).await?;
        Ok(tell_if(removed, audit, removed))
    }

    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool> {
        let added = self.0.add_secret(secret, newest, audit).await?;
        Ok(tell_if(added, audit, added))
    }

    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool> {
        let removed = self.0.remove_secret(purpose, id, audit).await?;
        Ok(tell_if(removed, audit, removed))
    }

    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()> {
        self.0.reseal_keys(rows, audit).await?;
        tell(audit);
        Ok(())
    }

    async fn heartbeat(&self, replica: Uuid, loaded: &[KeyId]) -> Result<()> {
        self.0.heartbeat(replica, loaded).await
    }

    async fn loaded_everywhere(&self, id: &KeyId, within_millis: i64) -> Result<bool> {
        self.0.loaded_everywhere(id, within_millis).await
    }
}
