//! The database as a replica reaches it: users, clients and the audit trail.

use std::time::Duration;

use async_trait::async_trait;
use countersign::clock::UnixMillis;
use countersign::model::{
    AuditEvent, Client, ClientChange, ClientId, Epochs, Result, Revocation, SessionId, User, UserId, Username,
};
use countersign::secret::SecretText;
use countersign::store::accounts::{Authority, NewPassword, NewUser, UserChange};
use countersign::store::{AuditQuery, AuditStore, ClientStore, Login, MachineLogin, Page, RefreshView, UserStore};
use uuid::Uuid;

use super::SimDatabase;
use crate::mutants::Mutant;

#[async_trait]
impl UserStore for SimDatabase {
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login> {
        self.link.call("login", self.real.login(name, client)).await
    }

    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView> {
        let view = self.real.refresh_view(user, client, session, epochs);
        let mut view = self.link.call("refresh_view", view).await?;
        view.revoked &= self.mutant != Some(Mutant::RefreshAsksNoRevocations);
        Ok(view)
    }

    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()> {
        self.link
            .call("logged_in", self.real.logged_in(user, at, rehash, audit))
            .await
    }

    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()> {
        self.link
            .call("create_user", self.real.create_user(new, authority, audit))
            .await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.link.call("user", self.real.user(id)).await
    }

    async fn user_by_name(&self, name: &Username) -> Result<Option<User>> {
        self.link.call("user_by_name", self.real.user_by_name(name)).await
    }

    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>> {
        self.link.call("password_hash", self.real.password_hash(id)).await
    }

    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>> {
        self.link
            .call("list_users", self.real.list_users(prefix, after, limit))
            .await
    }

    async fn update_user(
        &self,
        id: UserId,
        change: &UserChange,
        expected: Option<UnixMillis>,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)> {
        self.link
            .call(
                "update_user",
                self.real.update_user(id, change, expected, authority, audit),
            )
            .await
    }

    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        self.link
            .call("delete_user", self.real.delete_user(id, authority, audit))
            .await
    }

    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation> {
        self.link
            .call("set_password", self.real.set_password(new, authority, audit))
            .await
    }

    async fn begin_password_reset(
        &self,
        id: UserId,
        token_hash: [u8; 32],
        expires: UnixMillis,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<()> {
        self.link
            .call(
                "begin_password_reset",
                self.real
                    .begin_password_reset(id, token_hash, expires, authority, audit),
            )
            .await
    }

    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>> {
        self.link
            .call("password_reset_user", self.real.password_reset_user(token_hash, now))
            .await
    }

    async fn complete_password_reset(
        &self,
        token_hash: [u8; 32],
        hash: &SecretText,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        self.link
            .call(
                "complete_password_reset",
                self.real.complete_password_reset(token_hash, hash, audit),
            )
            .await
    }
}

#[async_trait]
impl ClientStore for SimDatabase {
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin> {
        self.link.call("machine_login", self.real.machine_login(id)).await
    }

    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()> {
        self.link
            .call("create_client", self.real.create_client(client, secret_hash, audit))
            .await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>> {
        self.link.call("client", self.real.client(id)).await
    }

    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>> {
        self.link
            .call("list_clients", self.real.list_clients(after, limit))
            .await
    }

    async fn update_client(
        &self,
        id: &ClientId,
        change: &ClientChange,
        expected: Option<UnixMillis>,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(Client, Option<Revocation>)> {
        self.link
            .call(
                "update_client",
                self.real.update_client(id, change, expected, callable, audit),
            )
            .await
    }

    async fn delete_client(
        &self,
        id: &ClientId,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        self.link
            .call("delete_client", self.real.delete_client(id, callable, audit))
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
        self.link
            .call(
                "rotate_client_secret",
                self.real
                    .rotate_client_secret(id, secret_hash, overlap, callable, audit),
            )
            .await
    }
}

#[async_trait]
impl AuditStore for SimDatabase {
    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        self.link.call("append_audit", self.real.append_audit(event)).await
    }

    async fn append_audit_events(&self, events: &[AuditEvent]) -> Result<()> {
        self.link
            .call("append_audit_events", self.real.append_audit_events(events))
            .await
    }

    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>> {
        self.link
            .call("list_audit", self.real.list_audit(query, before, limit))
            .await
    }

    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32> {
        self.link
            .call("purge_audit", self.real.purge_audit(before, limit))
            .await
    }
}
