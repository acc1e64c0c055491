//! What people ask for: rotate, revoke, import, reseal.

use super::bootstrap::generate;
use super::select::{is_asked_for, stand_in, successors};
use super::{ALIVE, Keys, select};
use crate::clock::millis;
use crate::keys::ring::{KeyRing, ListedKey, Refused};
use crate::keys::rows::{Provenance, signing_row};
use crate::keys::seal::{Master, Subject};
use crate::keys::signing::SigningKey;
use crate::model::audit::Origin;
use crate::model::{AuditType, Error, ErrorKind, KeyId, KeyState, Result, Revocation};
use crate::secret::Entropy;
use crate::store::keys::{KeyRows, SecretRow, SigningRow};

/// What a reseal did.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// How many rows are under the first master key now that were not before.
    pub rows: usize,
    /// The rows that did not open and were left alone.
    pub refused: Vec<Refused>,
}

impl Keys {
    /// Makes another key sign.
    ///
    /// With `force` at once: caches that do not know the key yet will have to ask. Without it as soon as the standby has
    /// been published for `keys.prepublish` and every live replica has loaded it; if that is not now, the answer is that
    /// key, still PENDING, and some replica's [`Keys::tick`] activates it in time. Of several that rotate at once one
    /// wins, and all of them answer the key that signs now.
    pub async fn rotate(&self, force: bool, origin: &Origin) -> Result<ListedKey> {
        self.reload().await?;
        self.ensure_standby(origin).await?;
        let ring = self.current();
        let algorithm = self.config.algorithm;
        let successors = successors(&ring, algorithm);
        let first = successors.first().ok_or_else(|| Error::internal("no standby opens"))?;
        let mut ready = force.then_some(first);
        for successor in &successors {
            if ready.is_none() && self.is_known(successor).await? {
                ready = Some(successor);
            }
        }
        if let Some(successor) = ready {
            return self.activate(&successor.id, ring.active_id(), origin).await;
        }
        if !is_asked_for(&ring, algorithm) {
            // A second standby is the request: durable, and seen by every replica.
            let row = generate(&self.parts, algorithm, self.parts.clock.now()).await?;
            let audit = self.audit(AuditType::KeyCreated, &row.id, origin);
            self.parts.store.import_key(&row, &audit).await?;
            self.reload().await?;
        }
        Ok(first.clone())
    }

    /// Ends a key: every token that it signed is dead. If it was the one that signs, the standby signs from now on.
    /// The revocation, if there is a new one, is the caller's to announce. Refresh tokens are not touched.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`; `LAST_ACTIVE_KEY` if it signs and no standby opens.
    pub async fn revoke(&self, id: &KeyId, reason: &str, origin: &Origin) -> Result<(ListedKey, Option<Revocation>)> {
        self.reload().await?;
        let mut revoked = self.revoke_once(id, reason, origin).await;
        if matches!(&revoked, Err(error) if error.kind == ErrorKind::LastActiveKey) && self.reload().await? {
            // The standby was activated between our look and the store's; there is another now.
            revoked = self.revoke_once(id, reason, origin).await;
        }
        let (row, revocation) = revoked?;
        self.reload().await?;
        self.ensure_standby(origin).await?;
        Ok((ListedKey::from(&row), revocation))
    }

    /// Takes a key that somebody brought along ([`SigningKey::import`] says what is accepted): PENDING, and the next to sign;
    /// with `activate` at once.
    pub async fn import(&self, file: &[u8], activate: bool, origin: &Origin) -> Result<ListedKey> {
        let key = SigningKey::import(file)?;
        let now = self.parts.clock.now();
        let row = signing_row(
            &key,
            Provenance::Imported,
            now,
            &self.parts.master,
            &*self.parts.entropy,
        )?;
        let audit = self.audit(AuditType::KeyImported, &row.id, origin);
        if !self.parts.store.import_key(&row, &audit).await? {
            return Err(Error::invalid("key", "this key is in the key ring already, or was"));
        }
        self.reload().await?;
        if activate {
            let ring = self.current();
            return self.activate(&row.id, ring.active_id(), origin).await;
        }
        Ok(ListedKey::from(&row))
    }

    /// Puts every private half and secret under the first master key, so that the others can be taken out of the keyring.
    pub async fn reseal(&self, origin: &Origin) -> Result<Resealed> {
        self.reload().await?;
        let ring = self.current();
        let (mut rows, refused) = resealed(&ring, &self.parts.master, &*self.parts.entropy)?;
        let count = rows.signing.len() + rows.secrets.len();
        rows.checks = self.parts.master.check_rows(&*self.parts.entropy)?;
        rows.checks
            .retain(|check| !ring.rows().checks.iter().any(|row| row.name == check.name));
        if rows != KeyRows::default() {
            let audit = self.audit(AuditType::KeyResealed, &"keys", origin);
            let audit = audit.with_detail("rows", count);
            self.parts.store.reseal_keys(&rows, &audit).await?;
            self.reload().await?;
        }
        Ok(Resealed { rows: count, refused })
    }

    /// Makes `id` the key that signs, if `active` still is; answers the key that signs then.
    pub(super) async fn activate(&self, id: &KeyId, active: Option<&KeyId>, origin: &Origin) -> Result<ListedKey> {
        let audit = self.audit(AuditType::KeyActivated, id, origin);
        let audit = audit.with_detail("retired", active.map_or("", KeyId::as_str));
        let won = self.parts.store.activate_key(id, active, &audit).await?;
        self.reload().await?;
        if won {
            tracing::info!(key_id = %id, "another signing key is active");
            self.ensure_standby(origin).await?;
        }
        let signs = |key: &ListedKey| key.state == KeyState::Active;
        self.current()
            .listed()
            .find(signs)
            .ok_or_else(|| Error::internal("no key is ACTIVE"))
    }

    /// Whether everybody has had the time and the occasion to learn of a key.
    pub(super) async fn is_known(&self, key: &ListedKey) -> Result<bool> {
        let published = key.created.plus(self.config.prepublish) <= self.parts.clock.now();
        Ok(published && self.parts.store.loaded_everywhere(&key.id, millis(ALIVE)).await?)
    }

    /// Publishes a standby of the configured algorithm if there is none.
    pub(super) async fn ensure_standby(&self, origin: &Origin) -> Result<()> {
        let ring = self.current();
        if select::has_standby(&ring, self.config.algorithm) {
            return Ok(());
        }
        let now = self.parts.clock.now();
        self.discard_tampered_standbys(&ring, origin).await?;
        let row = generate(&self.parts, self.config.algorithm, now).await?;
        let audit = self.audit(AuditType::KeyCreated, &row.id, origin);
        if self.parts.store.add_pending_key(&row, &audit).await? {
            tracing::info!(key_id = %row.id, "a standby signing key is published");
        }
        self.reload().await.map(drop)
    }

    /// A tampered standby would stand in the way of a good one. It has signed nothing: revoking it hurts nobody.
    async fn discard_tampered_standbys(&self, ring: &KeyRing, origin: &Origin) -> Result<()> {
        for key in ring.listed() {
            if key.state == KeyState::Pending && ring.is_tampered(&key.id) {
                let audit = self.audit(AuditType::KeyRevoked, &key.id, origin);
                let audit = audit.with_detail("reason", "the sealed row was tampered with");
                self.parts.store.revoke_key(&key.id, None, &audit).await?;
            }
        }
        Ok(())
    }

    async fn revoke_once(&self, id: &KeyId, reason: &str, origin: &Origin) -> Result<(SigningRow, Option<Revocation>)> {
        let standby = stand_in(&self.current(), self.config.algorithm, id);
        let audit = self
            .audit(AuditType::KeyRevoked, id, origin)
            .with_detail("reason", reason);
        self.parts.store.revoke_key(id, standby.as_ref(), &audit).await
    }
}

/// The rows that are not under the first master key yet, sealed anew, and those that do not open.
fn resealed(ring: &KeyRing, master: &Master, entropy: &dyn Entropy) -> Result<(KeyRows, Vec<Refused>)> {
    let mut rows = KeyRows::default();
    let mut refused = Vec::new();
    let mut again = |subject: Subject<'_>, sealed: &[u8]| -> Result<Option<Vec<u8>>> {
        if master.is_current(sealed) && master.open(subject, sealed).is_ok() {
            return Ok(None);
        }
        match master.open(subject, sealed) {
            Ok(plain) => master.seal(subject, &plain, entropy).map(Some),
            Err(why) => {
                refused.push(Refused {
                    what: subject.to_string(),
                    why,
                });
                Ok(None)
            }
        }
    };
    for row in &ring.rows().signing {
        if let Some(sealed) = again(Subject::Signing(&row.id, row.algorithm), &row.sealed)? {
            rows.signing.push(SigningRow { sealed, ..row.clone() });
        }
    }
    for row in &ring.rows().secrets {
        if let Some(sealed) = again(Subject::Secret(row.purpose, row.id), &row.sealed)? {
            rows.secrets.push(SecretRow { sealed, ..row.clone() });
        }
    }
    Ok((rows, refused))
}
