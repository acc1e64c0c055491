//! The database as a replica reaches it: keys.

use async_trait::async_trait;
use countersign::model::{AuditEvent, KeyId, Result, Revocation};
use countersign::store::KeyStore;
use countersign::store::keys::{KeyRows, ReplicaKeys, SecretPurpose, SecretRow, SigningRow};

use super::SimDatabase;

#[async_trait]
impl KeyStore for SimDatabase {
    async fn load_keys(&self) -> Result<KeyRows> {
        self.link.call("load_keys", self.real.load_keys()).await
    }

    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows> {
        self.link
            .call("ensure_keys", self.real.ensure_keys(proposed, audit))
            .await
    }

    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        self.link
            .call("add_pending_key", self.real.add_pending_key(key, audit))
            .await
    }

    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        self.link.call("import_key", self.real.import_key(key, audit)).await
    }

    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool> {
        self.link
            .call("activate_key", self.real.activate_key(id, active, audit))
            .await
    }

    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)> {
        self.link
            .call("revoke_key", self.real.revoke_key(id, standby, audit))
            .await
    }

    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool> {
        self.link.call("remove_key", self.real.remove_key(id, audit)).await
    }

    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool> {
        self.link
            .call("add_secret", self.real.add_secret(secret, newest, audit))
            .await
    }

    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool> {
        self.link
            .call("remove_secret", self.real.remove_secret(purpose, id, audit))
            .await
    }

    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()> {
        self.link.call("reseal_keys", self.real.reseal_keys(rows, audit)).await
    }

    async fn heartbeat(&self, replica: &ReplicaKeys) -> Result<()> {
        self.link.call("heartbeat", self.real.heartbeat(replica)).await
    }

    async fn live_replicas(&self, within_millis: i64) -> Result<Vec<ReplicaKeys>> {
        self.link
            .call("live_replicas", self.real.live_replicas(within_millis))
            .await
    }
}
