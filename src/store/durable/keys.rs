//! Keys at rest: their transitions. Those that depend on rows other than their own begin with [`lock`], so they run one
//! at a time.

use async_trait::async_trait;

use super::columns::{Columns, one_column};
use super::statement::sql;
use super::transaction::Transaction;
use super::{Backend, PoolKind, WorkMode};
use crate::clock::UnixMillis;
use crate::model::{Algorithm, AuditEvent, Error, ErrorKind, KeyId, KeyState, Result, Revocation, Target};
use crate::store::change;
use crate::store::keys::{CheckRow, KeyRows, ReplicaKeys, SecretPurpose, SecretRow, SigningRow};
use crate::store::{Expiry, KeyStore, NewRevocation};

/// A replica that sends no heartbeat for this long is forgotten, in milliseconds.
const FORGET_REPLICA_AFTER: i64 = 24 * 60 * 60 * 1000;

#[async_trait]
impl<B: Backend> KeyStore for B {
    async fn load_keys(&self) -> Result<KeyRows> {
        self.perform(PoolKind::Maintenance, WorkMode::Snapshot, None, (), |tx, ()| {
            Box::pin(load(tx))
        })
        .await
    }

    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows> {
        self.transition(audit, proposed.clone(), |tx, proposed| {
            Box::pin(async move {
                let stored = lock(tx).await?;
                let lacking = change::lacking(&stored, proposed);
                if lacking == KeyRows::default() {
                    return Ok(stored);
                }
                for key in &lacking.signing {
                    insert_signing(tx, key).await?;
                }
                for secret in &lacking.secrets {
                    insert_secret(tx, secret).await?;
                }
                for check in &lacking.checks {
                    insert_check(tx, check).await?;
                }
                tx.audit().await?;
                load(tx).await
            })
        })
        .await
    }

    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        let mut key = key.clone();
        key.state = KeyState::Pending;
        self.transition(audit, key, |tx, key| {
            Box::pin(async move {
                let stored = lock(tx).await?.signing;
                let is_next = |row: &SigningRow| row.algorithm == key.algorithm && row.state == KeyState::Pending;
                let added = !stored.iter().any(is_next) && insert_signing(tx, key).await?;
                tx.audit_if(added).await
            })
        })
        .await
    }

    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool> {
        self.transition(audit, key.clone(), |tx, key| {
            Box::pin(async move {
                let added = insert_signing(tx, key).await?;
                tx.audit_if(added).await
            })
        })
        .await
    }

    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool> {
        self.transition(audit, (id.clone(), active.cloned()), |tx, (id, active)| {
            Box::pin(async move {
                if !change::may_activate(&lock(tx).await?.signing, id, active.as_ref()) {
                    return Ok(false);
                }
                let at = tx.now().await?;
                let retire = sql!("UPDATE signing_keys SET state = 'retired', retired = $1 WHERE state = 'active'");
                tx.run(retire.bind(at)).await?;
                begin_signing(tx, id, at).await?;
                tx.audit_if(true).await
            })
        })
        .await
    }

    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)> {
        self.transition(audit, (id.clone(), standby.cloned()), |tx, (id, standby)| {
            Box::pin(async move {
                let signing = lock(tx).await?.signing;
                let key = signing.iter().find(|key| key.id == *id);
                let mut key = key.ok_or(ErrorKind::KeyNotFound)?.clone();
                if key.state == KeyState::Revoked {
                    return Ok((key, None));
                }
                let successor = change::successor(&signing, &key, standby.as_ref())?;
                let at = tx.now().await?;
                let end = sql!("UPDATE signing_keys SET state = 'revoked', revoked = $2 WHERE id = $1");
                tx.run(end.bind(id).bind(at)).await?;
                if let Some(successor) = successor {
                    begin_signing(tx, successor, at).await?;
                }
                let revocation = tx
                    .record(&NewRevocation {
                        target: Target::Key(id.clone()),
                        expires: Expiry::LongestSession,
                    })
                    .await?;
                if revocation.is_none() {
                    // It was written back after a promotion that had lost the revocation together with the state of the key.
                    tx.audit().await?;
                }
                key.state = KeyState::Revoked;
                key.revoked = Some(at);
                Ok((key, revocation))
            })
        })
        .await
    }

    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool> {
        self.transition(audit, id.clone(), |tx, id| {
            Box::pin(async move {
                let remove = sql!("DELETE FROM signing_keys WHERE id = $1 AND state IN ('retired', 'revoked')");
                let removed = tx.run(remove.bind(id)).await?;
                tx.audit_if(removed == 1).await
            })
        })
        .await
    }

    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool> {
        if secret.id.checked_sub(1) != Some(newest) {
            return Err(Error::internal("a secret's id must be the next one"));
        }
        self.transition(audit, (secret.clone(), newest), |tx, (secret, newest)| {
            Box::pin(async move {
                let stored = lock(tx).await?.secrets;
                let of_purpose = stored.iter().filter(|row| row.purpose == secret.purpose);
                if of_purpose.map(|row| row.id).max().unwrap_or(0) != *newest {
                    return Ok(false);
                }
                insert_secret(tx, secret).await?;
                tx.audit_if(true).await
            })
        })
        .await
    }

    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool> {
        self.transition(audit, (purpose, id), |tx, &(purpose, id)| {
            Box::pin(async move {
                let remove = sql!(
                    "DELETE FROM secrets WHERE purpose = $1 AND id = $2
                     AND id < (SELECT max(id) FROM secrets WHERE purpose = $1)"
                );
                let removed = tx.run(remove.bind(purpose.as_str()).bind(i64::from(id))).await?;
                tx.audit_if(removed == 1).await
            })
        })
        .await
    }

    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()> {
        self.transition(audit, rows.clone(), |tx, rows| {
            Box::pin(async move {
                lock(tx).await?;
                for key in &rows.signing {
                    let seal = sql!("UPDATE signing_keys SET sealed = $2 WHERE id = $1");
                    tx.run(seal.bind(&key.id).bind(&key.sealed)).await?;
                }
                for secret in &rows.secrets {
                    let seal = sql!("UPDATE secrets SET sealed = $3 WHERE purpose = $1 AND id = $2")
                        .bind(secret.purpose.as_str())
                        .bind(i64::from(secret.id))
                        .bind(&secret.sealed);
                    tx.run(seal).await?;
                }
                for check in &rows.checks {
                    insert_check(tx, check).await?;
                }
                tx.audit().await
            })
        })
        .await
    }

    async fn heartbeat(&self, replica: &ReplicaKeys) -> Result<()> {
        let loaded: Vec<String> = replica.signing.iter().map(ToString::to_string).collect();
        let beat = sql!(
            "INSERT INTO replicas (id, seen, loaded, master_keys) VALUES ($1, ",
            now,
            ", $2, $3) ON CONFLICT (id) DO UPDATE SET
             seen = excluded.seen, loaded = excluded.loaded, master_keys = excluded.master_keys"
        )
        .bind(replica.replica)
        .bind(loaded)
        .bind(replica.master.clone());
        // Two single statements, which may be sent twice: the second one may as well happen at a later heartbeat.
        self.run(PoolKind::Maintenance, beat).await?;
        // After the heartbeat, so that a replica which comes back after a day does not forget itself.
        let forget = sql!("DELETE FROM replicas WHERE seen < ", now, " - $1");
        self.run(PoolKind::Maintenance, forget.bind(FORGET_REPLICA_AFTER))
            .await
            .map(drop)
    }

    async fn live_replicas(&self, within_millis: i64) -> Result<Vec<ReplicaKeys>> {
        let alive = sql!(
            "SELECT id, loaded, master_keys FROM replicas WHERE seen > ",
            now,
            " - $1 ORDER BY id"
        );
        let read = |columns: &mut Columns<'_>| {
            let (replica, loaded): (_, Vec<String>) = (columns.take()?, columns.take()?);
            // A name that this version cannot read is no key that it could ask for.
            let signing = loaded.iter().filter_map(|id| id.parse().ok()).collect();
            let master = columns.take()?;
            Ok(ReplicaKeys {
                replica,
                signing,
                master,
            })
        };
        self.query(PoolKind::Maintenance, alive.bind(within_millis), read).await
    }
}

/// Waits for other transitions of keys, and then reads all keys.
async fn lock(tx: &mut Transaction<'_>) -> Result<KeyRows> {
    tx.first(sql!("SELECT era FROM meta", for_update), one_column::<i64>)
        .await?;
    load(tx).await
}

async fn load(tx: &mut Transaction<'_>) -> Result<KeyRows> {
    let signing = sql!(
        "SELECT id, algorithm, public_jwk, sealed, state, created, activated, retired, revoked
         FROM signing_keys ORDER BY created, id"
    );
    let secrets = sql!(
        "SELECT purpose, id, sealed, created FROM secrets ORDER BY purpose",
        by_bytes,
        ", id"
    );
    let checks = sql!("SELECT name, sealed FROM master_keys ORDER BY name", by_bytes);
    Ok(KeyRows {
        signing: tx
            .all(signing, |columns| {
                Ok(SigningRow {
                    id: columns.take()?,
                    algorithm: columns.named(Algorithm::named)?,
                    public_jwk: columns.take()?,
                    sealed: columns.take()?,
                    state: columns.named(KeyState::named)?,
                    created: columns.take()?,
                    activated: columns.maybe()?,
                    retired: columns.maybe()?,
                    revoked: columns.maybe()?,
                })
            })
            .await?,
        secrets: tx
            .all(secrets, |columns| {
                Ok(SecretRow {
                    purpose: columns.named(SecretPurpose::named)?,
                    id: columns.take()?,
                    sealed: columns.take()?,
                    created: columns.take()?,
                })
            })
            .await?,
        checks: tx
            .all(checks, |columns| {
                Ok(CheckRow {
                    name: columns.take()?,
                    sealed: columns.take()?,
                })
            })
            .await?,
    })
}

async fn begin_signing(tx: &mut Transaction<'_>, id: &KeyId, at: UnixMillis) -> Result<()> {
    let begin = sql!("UPDATE signing_keys SET state = 'active', activated = $2 WHERE id = $1");
    tx.run(begin.bind(id).bind(at)).await.map(drop)
}

/// Returns whether the id was free.
async fn insert_signing(tx: &mut Transaction<'_>, key: &SigningRow) -> Result<bool> {
    let insert = sql!(
        "INSERT INTO signing_keys (id, algorithm, public_jwk, sealed, state, created, activated, retired, revoked)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING"
    )
    .bind(&key.id)
    .bind(key.algorithm.as_str())
    .bind(&key.public_jwk)
    .bind(&key.sealed)
    .bind(key.state.as_str())
    .bind(key.created)
    .bind(key.activated)
    .bind(key.retired)
    .bind(key.revoked);
    Ok(tx.run(insert).await? == 1)
}

async fn insert_secret(tx: &mut Transaction<'_>, secret: &SecretRow) -> Result<()> {
    let insert = sql!("INSERT INTO secrets (purpose, id, sealed, created) VALUES ($1, $2, $3, $4)")
        .bind(secret.purpose.as_str())
        .bind(i64::from(secret.id))
        .bind(&secret.sealed)
        .bind(secret.created);
    tx.run(insert).await.map(drop)
}

async fn insert_check(tx: &mut Transaction<'_>, check: &CheckRow) -> Result<()> {
    let insert = sql!("INSERT INTO master_keys (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    tx.run(insert.bind(&check.name).bind(&check.sealed)).await.map(drop)
}
