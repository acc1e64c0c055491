//! Operations that operators request: rotate, revoke, import, reseal.

use super::select::{is_rotation_requested, replacement, successors};
use super::{Keys, REPLICA_TTL, select};
use crate::clock::millis;
use crate::keys::published;
use crate::keys::ring::{KeyRing, ListedKey, UnusableRow};
use crate::keys::rows::{KeySource, signing_row};
use crate::keys::seal::{MasterKeyring, SealedItem};
use crate::keys::signing::SigningKey;
use crate::model::audit::Origin;
use crate::model::{AuditType, Error, ErrorKind, KeyId, KeyState, Result, Revocation};
use crate::secret::Entropy;
use crate::store::keys::{KeyRows, SecretRow, SigningRow};

/// The result of a reseal.
#[derive(Clone, Debug)]
pub struct ResealReport {
    /// How many rows were sealed again, under the first master key.
    pub rows: usize,
    /// The rows that do not open and were not changed.
    pub unusable: Vec<UnusableRow>,
}

impl Keys {
    /// Rotates to another signing key; returns it.
    ///
    /// With `force` the standby becomes ACTIVE immediately, and caches without it must fetch the key set. Without `force` it
    /// becomes ACTIVE once it has been published for `keys.prepublish` and each live replica has loaded it. Until then the
    /// result is PENDING, and the [`Keys::tick`] of some replica activates it later. If several callers rotate at once, one
    /// of them succeeds, and all return the key that signs now.
    pub async fn rotate(&self, force: bool, origin: &Origin) -> Result<ListedKey> {
        self.reload().await?;
        self.ensure_standby(origin).await?;
        let ring = self.current();
        let algorithm = self.config.algorithm;
        let successors = successors(&ring, algorithm);
        let first = successors
            .first()
            .ok_or_else(|| Error::internal("no standby key can be opened"))?;
        let mut ready = force.then_some(first);
        for successor in &successors {
            if ready.is_none() && self.is_loaded_everywhere(successor).await? {
                ready = Some(successor);
            }
        }
        if let Some(successor) = ready {
            return self.activate(&successor.id, ring.active_id(), origin).await;
        }
        if !is_rotation_requested(&ring, algorithm) {
            // A second standby records the request: it is durable, and each replica sees it.
            let row = self.vault.generate(algorithm, self.vault.clock.now()).await?;
            let audit = self.audit(AuditType::KeyCreated, &row.id, origin);
            self.vault.store.import_key(&row, &audit).await?;
            self.reload().await?;
        }
        Ok(first.clone())
    }

    /// Revokes a key, and with it each token that it signed. If the key was ACTIVE, the standby becomes ACTIVE. Refresh
    /// tokens stay valid. The caller must announce the revocation, which is `None` if the key was revoked before.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`; `LAST_ACTIVE_KEY` if the key is ACTIVE and no standby can be opened.
    pub async fn revoke(&self, id: &KeyId, reason: &str, origin: &Origin) -> Result<(ListedKey, Option<Revocation>)> {
        self.reload().await?;
        let mut revoked = self.revoke_once(id, reason, origin).await;
        if matches!(&revoked, Err(error) if error.kind == ErrorKind::LastActiveKey) && self.reload().await? {
            // The standby became ACTIVE between our reload and the revocation; there is another standby now.
            revoked = self.revoke_once(id, reason, origin).await;
        }
        let (row, revocation) = revoked?;
        self.reload().await?;
        self.ensure_standby(origin).await?;
        Ok((ListedKey::from(&row), revocation))
    }

    /// Imports an existing private key; see [`SigningKey::import`] for what is accepted. It is PENDING and signs next; with
    /// `activate` it becomes ACTIVE immediately.
    ///
    /// # Errors
    /// As [`SigningKey::import`], and `INVALID_REQUEST` at `key` if the store has or had this key, or if another JWT library
    /// cannot read its tokens.
    pub async fn import(&self, file: &[u8], activate: bool, origin: &Origin) -> Result<ListedKey> {
        let key = SigningKey::import(file)?;
        published::check_new(&key).map_err(|problem| Error::invalid("key", format!("the key {problem}")))?;
        let now = self.vault.clock.now();
        let row = signing_row(&key, KeySource::Imported, now, &self.vault.master, &*self.vault.entropy)?;
        let audit = self.audit(AuditType::KeyImported, &row.id, origin);
        if !self.vault.store.import_key(&row, &audit).await? {
            return Err(Error::invalid(
                "key",
                "this key is already in the key ring, or was in it",
            ));
        }
        self.reload().await?;
        if activate {
            let ring = self.current();
            return self.activate(&row.id, ring.active_id(), origin).await;
        }
        Ok(ListedKey::from(&row))
    }

    /// Seals all private keys and secrets under the first master key, so that the other ones can be removed from the keyring.
    ///
    /// # Errors
    /// `INVALID_REQUEST` at `keys.master_key`, and nothing is changed, if a live replica does not hold the first master key:
    /// it could open no key after the next restart or reload.
    pub async fn reseal(&self, origin: &Origin) -> Result<ResealReport> {
        self.check_first_master_is_everywhere().await?;
        self.reload().await?;
        let ring = self.current();
        let (mut rows, unusable) = reseal_rows(&ring, &self.vault.master, &*self.vault.entropy)?;
        let count = rows.signing.len() + rows.secrets.len();
        rows.checks = self.vault.master.check_rows(&*self.vault.entropy)?;
        rows.checks
            .retain(|check| !ring.rows().checks.iter().any(|row| row.name == check.name));
        if rows != KeyRows::default() {
            let audit = self.audit(AuditType::KeyResealed, &"keys", origin);
            let audit = audit.with_detail("rows", count);
            self.vault.store.reseal_keys(&rows, &audit).await?;
            self.reload().await?;
        }
        Ok(ResealReport { rows: count, unusable })
    }

    async fn check_first_master_is_everywhere(&self) -> Result<()> {
        let first = self.vault.master.names().next().unwrap_or_default();
        let live = self.vault.store.live_replicas(millis(REPLICA_TTL)).await?;
        let lacking: Vec<String> = live
            .iter()
            .filter(|replica| !replica.master.iter().any(|name| name == first))
            .map(|replica| replica.replica.to_string())
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "{} of {} live replicas do not hold the first master key {first} ({}): put it in keys.master_key of every \
             replica, restart them with this version, and run the command again (a stopped replica counts for {} s)",
            lacking.len(),
            live.len(),
            lacking.join(", "),
            REPLICA_TTL.as_secs()
        );
        Err(Error::invalid("keys.master_key", problem))
    }

    /// Makes `id` the ACTIVE key if `active` still is the ACTIVE one; returns the ACTIVE key after that.
    pub(super) async fn activate(&self, id: &KeyId, active: Option<&KeyId>, origin: &Origin) -> Result<ListedKey> {
        // The ring holds no standby that another JWT library cannot read; see `KeyRing::open`.
        if !self.current().unsealed().iter().any(|key| key.listed.id == *id) {
            return Err(Error::internal(format!(
                "the signing key {id} is not usable: see the log"
            )));
        }
        let audit = self.audit(AuditType::KeyActivated, id, origin);
        let audit = audit.with_detail("retired", active.map_or("", KeyId::as_str));
        let won = self.vault.store.activate_key(id, active, &audit).await?;
        self.reload().await?;
        if won {
            tracing::info!(key_id = %id, "activated a signing key");
            self.ensure_standby(origin).await?;
        }
        let signs = |key: &ListedKey| key.state == KeyState::Active;
        self.current()
            .listed()
            .find(signs)
            .ok_or_else(|| Error::internal("no key is ACTIVE"))
    }

    /// Whether a key has been published for `keys.prepublish` and each live replica has loaded it.
    pub(super) async fn is_loaded_everywhere(&self, key: &ListedKey) -> Result<bool> {
        let published = key.created.plus(self.config.prepublish) <= self.vault.clock.now();
        let live = self.vault.store.live_replicas(millis(REPLICA_TTL)).await?;
        Ok(published && live.iter().all(|replica| replica.signing.contains(&key.id)))
    }

    /// Publishes a standby of the configured algorithm if there is none.
    pub(super) async fn ensure_standby(&self, origin: &Origin) -> Result<()> {
        let ring = self.current();
        if select::has_standby(&ring, self.config.algorithm) {
            return Ok(());
        }
        let now = self.vault.clock.now();
        self.discard_unusable_standbys(&ring, origin).await?;
        let row = self.vault.generate(self.config.algorithm, now).await?;
        let audit = self.audit(AuditType::KeyCreated, &row.id, origin);
        if self.vault.store.add_pending_key(&row, &audit).await? {
            tracing::info!(key_id = %row.id, "published a standby signing key");
        }
        self.reload().await.map(drop)
    }

    /// Revokes tampered and unreadable standbys, which would block the creation of a good one. They have signed no token.
    async fn discard_unusable_standbys(&self, ring: &KeyRing, origin: &Origin) -> Result<()> {
        for key in ring.listed().filter(|key| key.state == KeyState::Pending) {
            let reason = if ring.is_tampered(&key.id) {
                Some("the sealed row was tampered with")
            } else if ring.is_unreadable(&key.id) {
                Some("another JWT library cannot read its tokens")
            } else {
                None
            };
            if let Some(reason) = reason {
                let audit = self.audit(AuditType::KeyRevoked, &key.id, origin);
                let audit = audit.with_detail("reason", reason);
                self.vault.store.revoke_key(&key.id, None, &audit).await?;
            }
        }
        Ok(())
    }

    async fn revoke_once(&self, id: &KeyId, reason: &str, origin: &Origin) -> Result<(SigningRow, Option<Revocation>)> {
        let standby = replacement(&self.current(), self.config.algorithm, id);
        let audit = self
            .audit(AuditType::KeyRevoked, id, origin)
            .with_detail("reason", reason);
        self.vault.store.revoke_key(id, standby.as_ref(), &audit).await
    }
}

/// Seals the rows that are not under the first master key again; returns them, and the rows that do not open.
fn reseal_rows(ring: &KeyRing, master: &MasterKeyring, entropy: &dyn Entropy) -> Result<(KeyRows, Vec<UnusableRow>)> {
    let mut rows = KeyRows::default();
    let mut unusable = Vec::new();
    let mut reseal_one = |item: SealedItem<'_>, sealed: &[u8]| -> Result<Option<Vec<u8>>> {
        if master.is_current(sealed) && master.unseal(item, sealed).is_ok() {
            return Ok(None);
        }
        match master.unseal(item, sealed) {
            Ok(plain) => master.seal(item, &plain, entropy).map(Some),
            Err(error) => {
                unusable.push(UnusableRow {
                    item: item.to_string(),
                    error,
                });
                Ok(None)
            }
        }
    };
    for row in &ring.rows().signing {
        if let Some(sealed) = reseal_one(SealedItem::SigningKey(&row.id, row.algorithm), &row.sealed)? {
            rows.signing.push(SigningRow { sealed, ..row.clone() });
        }
    }
    for row in &ring.rows().secrets {
        if let Some(sealed) = reseal_one(SealedItem::Secret(row.purpose, row.id), &row.sealed)? {
            rows.secrets.push(SecretRow { sealed, ..row.clone() });
        }
    }
    Ok((rows, unusable))
}
