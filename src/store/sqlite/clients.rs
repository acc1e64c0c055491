//! [`ClientStore`] on SQLite: each verb is one closure.

use std::time::Duration;

use async_trait::async_trait;

use super::{SqliteStore, logins, registry};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, Client, ClientChange, ClientId, Result, Revocation};
use crate::store::change::{storable_client, storable_client_change, storable_event};
use crate::store::{ClientStore, MachineLogin, Page};

#[async_trait]
impl ClientStore for SqliteStore {
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin> {
        let id = id.clone();
        self.db.read(move |tx| logins::machine_login(tx, &id)).await
    }

    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()> {
        storable_client(client)?;
        storable_event(audit)?;
        let (client, audit) = (client.clone(), audit.clone());
        self.db
            .call(move |tx| registry::create(tx, &client, secret_hash.as_ref(), &audit))
            .await
    }

    async fn ensure_default_client(&self, client: &Client, audit: &AuditEvent) -> Result<bool> {
        storable_client(client)?;
        storable_event(audit)?;
        let (client, audit) = (client.clone(), audit.clone());
        self.db.call(move |tx| registry::ensure(tx, &client, &audit)).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>> {
        let id = id.clone();
        self.db.read(move |tx| registry::by_id(tx, &id)).await
    }

    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>> {
        let after = after.cloned();
        self.db.read(move |tx| registry::list(tx, after.as_ref(), limit)).await
    }

    async fn update_client(
        &self,
        id: &ClientId,
        change: &ClientChange,
        expected: Option<UnixMillis>,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(Client, Option<Revocation>)> {
        storable_client_change(change)?;
        storable_event(audit)?;
        let (id, change, audit) = (id.clone(), change.clone(), audit.clone());
        let callable = callable.map(<[String]>::to_vec);
        self.db
            .call(move |tx| registry::update(tx, &id, &change, expected, callable.as_deref(), &audit))
            .await
    }

    async fn delete_client(
        &self,
        id: &ClientId,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        storable_event(audit)?;
        let (id, audit) = (id.clone(), audit.clone());
        let callable = callable.map(<[String]>::to_vec);
        self.db
            .call(move |tx| registry::delete(tx, &id, callable.as_deref(), &audit))
            .await
    }

    async fn rotate_client_secret(
        &self,
        id: &ClientId,
        secret_hash: [u8; 32],
        overlap: Duration,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(UnixMillis, Option<Revocation>)> {
        storable_event(audit)?;
        let (id, audit) = (id.clone(), audit.clone());
        let callable = callable.map(<[String]>::to_vec);
        self.db
            .call(move |tx| registry::rotate_secret(tx, &id, &secret_hash, overlap, callable.as_deref(), &audit))
            .await
    }
}
