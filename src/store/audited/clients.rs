use std::time::Duration;

use async_trait::async_trait;

use super::{Audited, tell, tell_if};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, Client, ClientChange, ClientId, Result, Revocation};
use crate::store::accounts::{ClientStore, MachineLogin, Page};

#[async_trait]
impl<S: ClientStore> ClientStore for Audited<S> {
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin> {
        self.0.machine_login(id).await
    }

    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()> {
        self.0.create_client(client, secret_hash, audit).await?;
        tell(audit);
        Ok(())
    }

    async fn ensure_default_client(&self, client: &Client, audit: &AuditEvent) -> Result<bool> {
        let made = self.0.ensure_default_client(client, audit).await?;
        Ok(tell_if(made, audit, made))
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>> {
        self.0.client(id).await
    }

    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>> {
        self.0.list_clients(after, limit).await
    }

    async fn update_client(
        &self,
        id: &ClientId,
        change: &ClientChange,
        expected: Option<UnixMillis>,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(Client, Option<Revocation>)> {
        let done = self.0.update_client(id, change, expected, callable, audit).await?;
        Ok(tell_if(true, audit, done))
    }

    async fn delete_client(
        &self,
        id: &ClientId,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        let done = self.0.delete_client(id, callable, audit).await?;
        Ok(tell_if(true, audit, done))
    }

    async fn rotate_client_secret(
        &self,
        id: &ClientId,
        secret_hash: [u8; 32],
        overlap: Duration,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(UnixMillis, Option<Revocation>)> {
        let done = self
            .0
            .rotate_client_secret(id, secret_hash, overlap, callable, audit)
            .await?;
        Ok(tell_if(true, audit, done))
    }
}
