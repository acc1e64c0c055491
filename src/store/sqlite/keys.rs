//! [`KeyStore`] on SQLite: each verb is one closure.

use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteStore, keyring};
use crate::model::{AuditEvent, KeyId, Result, Revocation};
use crate::store::KeyStore;
use crate::store::keys::{KeyRows, SecretPurpose, SecretRow, SigningRow};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn load_keys(&self) -> Result<KeyRows> {
        self.db.read(keyring::load).await
    }

    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows> {
        let (proposed, audit) = (proposed.clone(), audit.clone());
        self.db.call(move |tx| keyring::ensure(tx, &proposed, &audit)).await
    }

    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let (key, audit) = (key.clone(), audit.clone());
        self.db.call(move |tx| keyring::add_pending(tx, &key, &audit)).await
    }

    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let (key, audit) = (key.clone(), audit.clone());
        self.db.call(move |tx| keyring::import(tx, &key, &audit)).await
    }

    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool> {
        let (id, active, audit) = (id.clone(), active.cloned(), audit.clone());
        self.db
            .call(move |tx| keyring::activate(tx, &id, active.as_ref(), &audit))
            .await
    }

    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)> {
        let (id, standby, audit) = (id.clone(), standby.cloned(), audit.clone());
        self.db
            .call(move |tx| keyring::revoke(tx, &id, standby.as_ref(), &audit))
            .await
    }

    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool> {
        let (id, audit) = (id.clone(), audit.clone());
        self.db.call(move |tx| keyring::remove(tx, &id, &audit)).await
    }

    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool> {
        let (secret, audit) = (secret.clone(), audit.clone());
        self.db
            .call(move |tx| keyring::add_secret(tx, &secret, newest, &audit))
            .await
    }

    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool> {
        let audit = audit.clone();
        self.db
            .call(move |tx| keyring::remove_secret(tx, purpose, id, &audit))
            .await
    }

    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()> {
        let (rows, audit) = (rows.clone(), audit.clone());
        self.db.call(move |tx| keyring::reseal(tx, &rows, &audit)).await
    }

    async fn heartbeat(&self, replica: Uuid, loaded: &[KeyId]) -> Result<()> {
        let loaded = loaded.to_vec();
        self.db.call(move |tx| keyring::heartbeat(tx, replica, &loaded)).await
    }

    async fn loaded_everywhere(&self, id: &KeyId, within_millis: i64) -> Result<bool> {
        let id = id.clone();
        self.db
            .read(move |tx| keyring::loaded_everywhere(tx, &id, within_millis))
            .await
    }
}
