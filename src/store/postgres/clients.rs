//! [`ClientStore`] on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;

use super::error::Failure;
use super::pool::How::{Once, Repeatable, Transaction};
use super::{PostgresStore, logins, registry};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, Client, ClientChange, ClientId, ErrorKind, Result, Revocation};
use crate::store::change::{storable_client, storable_client_change, storable_event};
use crate::store::{ClientStore, MachineLogin, Page};

impl PostgresStore {
    /// Whether the id was free.
    async fn make_client(&self, client: &Client, secret: Option<[u8; 32]>, audit: &AuditEvent) -> Result<bool> {
        storable_client(client)?;
        storable_event(audit)?;
        let statement = registry::create(client, secret, audit).map_err(Failure::into_error)?;
        let made = self.db.first(Once, statement, |row| Ok(row.try_get(0)?)).await?;
        Ok(made == Some(true))
    }
}

#[async_trait]
impl ClientStore for PostgresStore {
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin> {
        self.only(logins::machine_login(id), logins::read_machine_login).await
    }

    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()> {
        if self.make_client(client, secret_hash, audit).await? {
            return Ok(());
        }
        Err(ErrorKind::ClientExists.into())
    }

    async fn ensure_default_client(&self, client: &Client, audit: &AuditEvent) -> Result<bool> {
        self.make_client(client, None, audit).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>> {
        let found = self.db.first(Repeatable, registry::by_id(id), registry::read).await?;
        Ok(found.flatten())
    }

    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>> {
        let found = self
            .db
            .all(Repeatable, registry::list(after, limit), registry::read)
            .await?;
        Ok(Page::of(found.into_iter().flatten().collect(), limit, |client| {
            client.id.to_string()
        }))
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
        let with = (
            id.clone(),
            change.clone(),
            callable.map(<[String]>::to_vec),
            audit.clone(),
        );
        self.db
            .with(Transaction, move |session| {
                let (id, change, callable, audit) = with.clone();
                Box::pin(
                    async move { registry::update(session, &id, &change, expected, callable.as_deref(), &audit).await },
                )
            })
            .await
    }

    async fn delete_client(
        &self,
        id: &ClientId,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        storable_event(audit)?;
        let with = (id.clone(), callable.map(<[String]>::to_vec), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (id, callable, audit) = with.clone();
                Box::pin(async move { registry::delete(session, &id, callable.as_deref(), &audit).await })
            })
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
        let with = (id.clone(), callable.map(<[String]>::to_vec), audit.clone());
        self.db
            .with(Transaction, move |session| {
                let (id, callable, audit) = with.clone();
                Box::pin(async move {
                    registry::rotate_secret(session, &id, secret_hash, overlap, callable.as_deref(), &audit).await
                })
            })
            .await
    }
}
