//! [`KeyStore`] on PostgreSQL.

use async_trait::async_trait;
use sqlx::Row as _;
use uuid::Uuid;

use super::error::Failure;
use super::pool::How::{Once, Repeatable, Transaction};
use super::statement::Statement;
use super::{PostgresStore, keyring};
use crate::model::{AuditEvent, KeyId, Result, Revocation};
use crate::store::KeyStore;
use crate::store::keys::{KeyRows, SecretPurpose, SecretRow, SigningRow};

impl PostgresStore {
    /// Runs a statement that answers whether it did something.
    async fn did(&self, statement: Result<Statement, Failure>) -> Result<bool> {
        let statement = statement.map_err(Failure::into_error)?;
        let did = self.db.first(Once, statement, |row| Ok(row.try_get(0)?)).await?;
        Ok(did == Some(true))
    }
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn load_keys(&self) -> Result<KeyRows> {
        self.upkeep
            .with(Transaction, |session| Box::pin(keyring::snapshot(session)))
            .await
    }

    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows> {
        let with = (proposed.clone(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (proposed, audit) = with.clone();
                Box::pin(async move { keyring::ensure(session, &proposed, &audit).await })
            })
            .await
    }

    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let with = (key.clone(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (key, audit) = with.clone();
                Box::pin(async move { keyring::add_pending(session, &key, &audit).await })
            })
            .await
    }

    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let with = (key.clone(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (key, audit) = with.clone();
                Box::pin(async move { keyring::import(session, &key, &audit).await })
            })
            .await
    }

    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool> {
        let with = (id.clone(), active.cloned(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (id, active, audit) = with.clone();
                Box::pin(async move { keyring::activate(session, &id, active.as_ref(), &audit).await })
            })
            .await
    }

    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)> {
        let with = (id.clone(), standby.cloned(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (id, standby, audit) = with.clone();
                Box::pin(async move { keyring::revoke(session, &id, standby.as_ref(), &audit).await })
            })
            .await
    }

    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool> {
        self.did(keyring::remove(id, audit)).await
    }

    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool> {
        let with = (secret.clone(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (secret, audit) = with.clone();
                Box::pin(async move { keyring::add_secret(session, &secret, newest, &audit).await })
            })
            .await
    }

    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool> {
        self.did(keyring::remove_secret(purpose, id, audit)).await
    }

    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()> {
        let with = (rows.clone(), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (rows, audit) = with.clone();
                Box::pin(async move { keyring::reseal(session, &rows, &audit).await })
            })
            .await
    }

    async fn heartbeat(&self, replica: Uuid, loaded: &[KeyId]) -> Result<()> {
        let statement = keyring::heartbeat(replica, loaded);
        self.upkeep.run(Repeatable, statement).await.map(drop)
    }

    async fn loaded_everywhere(&self, id: &KeyId, within_millis: i64) -> Result<bool> {
        let statement = keyring::loaded_everywhere(id, within_millis);
        let loaded = self
            .upkeep
            .first(Repeatable, statement, |row| Ok(row.try_get(0)?))
            .await?;
        Ok(loaded == Some(true))
    }
}
