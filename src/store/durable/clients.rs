//! Clients and their secrets: their columns and their transitions.

use std::time::Duration;

use async_trait::async_trait;

use super::columns::{Columns, unreadable};
use super::statement::{Statement, sql};
use super::transaction::Transaction;
use super::{Backend, PoolKind, logins};
use crate::clock::{UnixMillis, millis};
use crate::model::{
    AuditEvent, Client, ClientChange, ClientId, ErrorKind, Grant, Result, ReusePolicy, Revocation, Target,
};
use crate::store::change;
use crate::store::{ClientStore, MachineLogin, Page};

/// The columns that [`read`] reads.
macro_rules! client_columns {
    () => {
        "clients.id, clients.display_name, clients.grants, clients.audiences, clients.scopes, \
         clients.access_token_ttl, clients.refresh_idle_ttl, clients.session_ttl, clients.refresh_grace, \
         clients.reuse_policy, clients.max_sessions_per_user, clients.disabled, clients.created, clients.updated"
    };
}
pub(super) use client_columns;

/// How many columns [`read`] reads.
pub(super) const CLIENT_COLUMNS: usize = 14;

pub(super) fn read(columns: &mut Columns<'_>) -> Result<Client> {
    let grant = |name: &String| Grant::named(name).ok_or_else(|| unreadable("unknown grant"));
    Ok(Client {
        id: columns.take()?,
        display_name: columns.take()?,
        grants: columns
            .take::<Vec<String>>()?
            .iter()
            .map(grant)
            .collect::<Result<_>>()?,
        audiences: columns.take()?,
        scopes: columns.take()?,
        access_token_ttl: columns.maybe()?,
        refresh_idle_ttl: columns.maybe()?,
        session_ttl: columns.maybe()?,
        refresh_grace: columns.maybe()?,
        reuse_policy: columns.maybe_named(ReusePolicy::named)?,
        max_sessions_per_user: columns.take()?,
        disabled: columns.take()?,
        created: columns.take()?,
        updated: columns.take()?,
    })
}

#[async_trait]
impl<B: Backend> ClientStore for B {
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin> {
        let rows = self.query(PoolKind::Callers, logins::machine_login(id), logins::read_machine_login);
        let login = rows.await?.into_iter().reduce(|mut login, row| {
            login.secret_hashes.extend(row.secret_hashes);
            login
        });
        login.ok_or_else(|| unreadable("meta is empty"))
    }

    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()> {
        self.transition(audit, (client.clone(), secret_hash), |tx, (client, secret_hash)| {
            Box::pin(async move {
                let create = sql!(
                    "INSERT INTO clients (id, display_name, grants, audiences, scopes, access_token_ttl,
                                          refresh_idle_ttl, session_ttl, refresh_grace, reuse_policy,
                                          max_sessions_per_user, disabled, updated, created, epoch)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                             (SELECT coalesce(max(epoch), 0) FROM revocations
                              WHERE level = 'client' AND id = $1 AND epoch > 0))
                     ON CONFLICT DO NOTHING"
                );
                if tx.run(bind(create, client).bind(client.created)).await? == 0 {
                    return Err(ErrorKind::ClientExists.into());
                }
                if let Some(hash) = secret_hash {
                    add_secret(tx, &client.id, *hash).await?;
                }
                raise_session_life(tx, client).await?;
                tx.audit().await
            })
        })
        .await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>> {
        let by_id = sql!("SELECT ", client_columns!(), " FROM clients WHERE id = $1");
        self.first(by_id.bind(id), read).await
    }

    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>> {
        let list = sql!(
            "SELECT ",
            client_columns!(),
            " FROM clients WHERE id > $1 ORDER BY id LIMIT $2"
        )
        .bind(after.map_or("", ClientId::as_str))
        .bind(i64::from(limit) + 1);
        let found = self.query(PoolKind::Callers, list, read).await?;
        Ok(Page::of(found, limit, |client| client.id.to_string()))
    }

    async fn update_client(
        &self,
        id: &ClientId,
        change: &ClientChange,
        expected: Option<UnixMillis>,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(Client, Option<Revocation>)> {
        let arguments = (id.clone(), change.clone(), expected, callable.map(<[String]>::to_vec));
        self.transition(audit, arguments, |tx, (id, change, expected, callable)| {
            Box::pin(async move {
                let (client, now) = lock(tx, id).await?;
                let changed = change::client(client, change, *expected, callable.as_deref(), now)?;
                let store = sql!(
                    "UPDATE clients SET display_name = $2, grants = $3, audiences = $4, scopes = $5,
                                        access_token_ttl = $6, refresh_idle_ttl = $7, session_ttl = $8,
                                        refresh_grace = $9, reuse_policy = $10, max_sessions_per_user = $11,
                                        disabled = $12, updated = $13
                     WHERE id = $1"
                );
                tx.run(bind(store, &changed.row)).await?;
                raise_session_life(tx, &changed.row).await?;
                let revocation = tx.audit_or_revoke(changed.lost, Target::Client(id.clone())).await?;
                Ok((changed.row, revocation))
            })
        })
        .await
    }

    async fn delete_client(
        &self,
        id: &ClientId,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<Revocation> {
        let arguments = (id.clone(), callable.map(<[String]>::to_vec));
        self.transition(audit, arguments, |tx, (id, callable)| {
            Box::pin(async move {
                let (client, _) = lock(tx, id).await?;
                change::may_call(&client, callable.as_deref())?;
                let revocation = tx.revoke(Target::Client(id.clone())).await?;
                tx.run(sql!("DELETE FROM clients WHERE id = $1").bind(id)).await?;
                Ok(revocation)
            })
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
        let arguments = (id.clone(), secret_hash, overlap, callable.map(<[String]>::to_vec));
        self.transition(audit, arguments, |tx, (id, secret_hash, overlap, callable)| {
            Box::pin(async move {
                let (client, now) = lock(tx, id).await?;
                change::may_call(&client, callable.as_deref())?;
                let ends = now.plus(*overlap);
                let forget = sql!("DELETE FROM client_secrets WHERE client_id = $1 AND expires <= $2");
                tx.run(forget.bind(id).bind(now)).await?;
                let shorten = sql!(
                    "UPDATE client_secrets SET expires = ",
                    least,
                    "(coalesce(expires, $2), $2) WHERE client_id = $1"
                );
                tx.run(shorten.bind(id).bind(ends)).await?;
                add_secret(tx, id, *secret_hash).await?;
                let everything = Target::Client(id.clone());
                let revocation = tx.audit_or_revoke(overlap.is_zero(), everything).await?;
                Ok((ends, revocation))
            })
        })
        .await
    }
}

/// Locks the row of a client and returns it with the database's time.
async fn lock(tx: &mut Transaction<'_>, id: &ClientId) -> Result<(Client, UnixMillis)> {
    let lock = sql!(
        "SELECT ",
        client_columns!(),
        ", ",
        now,
        " FROM clients WHERE id = $1",
        for_update
    );
    let found = tx.first(lock.bind(id), |columns| Ok((read(columns)?, columns.take()?)));
    Ok(found.await?.ok_or(ErrorKind::ClientNotFound)?)
}

async fn add_secret(tx: &mut Transaction<'_>, id: &ClientId, hash: [u8; 32]) -> Result<()> {
    let add = sql!("INSERT INTO client_secrets (client_id, hash) VALUES ($1, $2)");
    tx.run(add.bind(id).bind(hash)).await.map(drop)
}

async fn raise_session_life(tx: &mut Transaction<'_>, client: &Client) -> Result<()> {
    if let Some(life) = client.session_ttl {
        tx.run(note_session_life(life)).await?;
    }
    Ok(())
}

/// Raises the high-water mark of session lives.
pub(super) fn note_session_life(life: Duration) -> Statement {
    sql!("UPDATE meta SET session_life = $1 WHERE session_life < $1").bind(millis(life))
}

/// Binds the id, the columns that can be set and `updated`: `$1` to `$13`.
fn bind(statement: Statement, client: &Client) -> Statement {
    let grants = client.grants.iter().map(|grant| grant.as_str().to_owned());
    statement
        .bind(&client.id)
        .bind(&client.display_name)
        .bind(grants.collect::<Vec<_>>())
        .bind(&client.audiences)
        .bind(&client.scopes)
        .bind(client.access_token_ttl.map(millis))
        .bind(client.refresh_idle_ttl.map(millis))
        .bind(client.session_ttl.map(millis))
        .bind(client.refresh_grace.map(millis))
        .bind(client.reuse_policy.map(ReusePolicy::as_str))
        .bind(i64::from(client.max_sessions_per_user))
        .bind(client.disabled)
        .bind(client.updated)
}
