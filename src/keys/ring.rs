//! The key ring: an immutable snapshot of all keys and secrets in the store, unsealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::published;
use super::refresh::RefreshKey;
use super::rows::{UnsealedKey, unseal_secret, unseal_signing_key};
use super::seal::{MasterKeyring, SealedItem, UnsealError};
use super::signing::SigningKey;
use super::verifying::VerifyingKeys;
use crate::clock::UnixMillis;
use crate::model::{Algorithm, KeyId, KeyState};
use crate::secret::{SecretBytes, sha256};
use crate::store::keys::{CheckRow, KeyRows, SecretPurpose, SecretRow, SigningRow};

/// The public properties of a signing key, as the API lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The RFC 7638 thumbprint.
    pub id: KeyId,
    /// The algorithm of its signatures.
    pub algorithm: Algorithm,
    /// Its state.
    pub state: KeyState,
    /// When it was published.
    pub created: UnixMillis,
    /// When it began to sign.
    pub activated: Option<UnixMillis>,
    /// When it stopped signing.
    pub retired: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked: Option<UnixMillis>,
}

impl From<&SigningRow> for ListedKey {
    fn from(row: &SigningRow) -> Self {
        Self {
            id: row.id.clone(),
            algorithm: row.algorithm,
            state: row.state,
            created: row.created,
            activated: row.activated,
            retired: row.retired,
            revoked: row.revoked,
        }
    }
}

/// A row that does not open, or a standby that another library cannot read; it is not used. Each one is logged as an error and counted in a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableRow {
    /// The item of the row, for messages.
    pub item: String,
    /// Why the row is not used.
    pub error: UnsealError,
}

/// All keys at one moment. Rows that do not open under the master keyring are left out, with their public keys: an attacker
/// with write access to the database could have inserted them.
#[derive(Debug)]
pub struct KeyRing {
    rows: KeyRows,
    unsealed: Vec<UnsealedKey>,
    refresh: BTreeMap<u32, RefreshKey>,
    tagging_key: Option<u32>,
    peppers: BTreeMap<u32, SecretBytes<32>>,
    verifying: Arc<VerifyingKeys>,
    jwks_json: String,
    etag: String,
    unusable_rows: Vec<UnusableRow>,
    version: u64,
}

impl KeyRing {
    /// Opens all rows. A refresh key that was created after `settled` verifies tags and does not make them yet, because
    /// other replicas may not have loaded it. If there is no older one, the oldest key is used all the same.
    #[must_use]
    pub fn open(rows: KeyRows, master: &MasterKeyring, settled: UnixMillis) -> Self {
        let mut ring = Self {
            unsealed: Vec::new(),
            refresh: BTreeMap::new(),
            tagging_key: None,
            peppers: BTreeMap::new(),
            verifying: Arc::default(),
            jwks_json: String::new(),
            etag: String::new(),
            unusable_rows: Vec::new(),
            rows: KeyRows::default(),
            version: 0,
        };
        let mut verifying = VerifyingKeys::default();
        for row in &rows.signing {
            if row.state == KeyState::Revoked {
                verifying.note(&row.id, row.state, None);
                continue;
            }
            match unseal_signing_key(row, master).and_then(check_standby) {
                Ok(unsealed) => {
                    verifying.insert(unsealed.key.public().clone(), row.retired);
                    ring.unsealed.push(unsealed);
                }
                Err(error) => ring.add_unusable(SealedItem::SigningKey(&row.id, row.algorithm), error, &rows.checks),
            }
        }
        for row in &rows.secrets {
            match unseal_secret(row, master) {
                Ok(secret) => match row.purpose {
                    SecretPurpose::Refresh => drop(ring.refresh.insert(row.id, RefreshKey::new(&secret))),
                    SecretPurpose::Pepper => drop(ring.peppers.insert(row.id, secret)),
                },
                Err(error) => ring.add_unusable(SealedItem::Secret(row.purpose, row.id), error, &rows.checks),
            }
        }
        ring.tagging_key = tagging_key(&rows, &ring.refresh, settled);
        ring.jwks_json = published::set(verifying.good());
        let digest = sha256(ring.jwks_json.as_bytes());
        ring.etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..12]));
        ring.verifying = Arc::new(verifying);
        ring.rows = rows;
        ring
    }

    /// Sets the version of this ring.
    #[must_use]
    pub(super) fn numbered(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// The version of this ring: each ring of a replica has a higher one, so a cached token shows which ring verified it.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The key that signs now, unless its row does not open.
    #[must_use]
    pub fn active(&self) -> Option<&SigningKey> {
        let found = self
            .unsealed
            .iter()
            .find(|unsealed| unsealed.listed.state == KeyState::Active);
        found.map(|unsealed| &unsealed.key)
    }

    /// The id of the key that is ACTIVE in the store, whether or not its row opens.
    #[must_use]
    pub fn active_id(&self) -> Option<&KeyId> {
        let found = self.rows.signing.iter().find(|row| row.state == KeyState::Active);
        found.map(|row| &row.id)
    }

    /// The refresh key that tags new tokens, with its number: the newest one that every replica has had the time to load.
    #[must_use]
    pub fn newest_refresh(&self) -> Option<(u32, &RefreshKey)> {
        let id = self.tagging_key?;
        self.refresh.get(&id).map(|key| (id, key))
    }

    /// The refresh key with this number.
    #[must_use]
    pub fn refresh_key(&self, id: u32) -> Option<&RefreshKey> {
        self.refresh.get(&id)
    }

    /// All peppers with their numbers.
    pub fn peppers(&self) -> impl Iterator<Item = (u32, &SecretBytes<32>)> {
        self.peppers.iter().map(|(id, pepper)| (*id, pepper))
    }

    /// The pepper with this number.
    #[must_use]
    pub fn pepper(&self, id: u32) -> Option<&SecretBytes<32>> {
        self.peppers.get(&id)
    }

    /// The newest pepper with its number, for new hashes.
    #[must_use]
    pub fn newest_pepper(&self) -> Option<(u32, &SecretBytes<32>)> {
        self.peppers.last_key_value().map(|(id, pepper)| (*id, pepper))
    }

    /// The public keys that verify tokens.
    #[must_use]
    pub const fn verifying(&self) -> &Arc<VerifyingKeys> {
        &self.verifying
    }

    /// All signing keys of the store, oldest first, including those whose rows do not open.
    pub fn listed(&self) -> impl Iterator<Item = ListedKey> {
        self.rows.signing.iter().map(ListedKey::from)
    }

    /// The JSON Web Key Set (RFC 7517 §5) of the PENDING, ACTIVE and RETIRED keys.
    #[must_use]
    pub fn jwks_json(&self) -> &str {
        &self.jwks_json
    }

    /// The entity tag of the key set (RFC 9110 §8.8.3), quotation marks included. It is the same on every replica.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The rows that do not open and are not used.
    #[must_use]
    pub fn unusable_rows(&self) -> &[UnusableRow] {
        &self.unusable_rows
    }

    /// Whether opening `rows` with this `settled` would give the same ring.
    pub(super) fn matches(&self, rows: &KeyRows, settled: UnixMillis) -> bool {
        self.rows == *rows && self.tagging_key == tagging_key(rows, &self.refresh, settled)
    }

    /// The rows that the ring was made from.
    #[must_use]
    pub const fn rows(&self) -> &KeyRows {
        &self.rows
    }

    /// The signing keys whose rows opened, oldest first. Rows of REVOKED keys are not opened.
    #[must_use]
    pub fn unsealed(&self) -> &[UnsealedKey] {
        &self.unsealed
    }

    /// Whether the row of this signing key does not open because it was changed.
    #[must_use]
    pub fn is_tampered(&self, id: &KeyId) -> bool {
        let row = self.rows.signing.iter().find(|row| row.id == *id);
        row.is_some_and(|row| self.is_item_tampered(SealedItem::SigningKey(&row.id, row.algorithm)))
    }

    /// Whether this signing key is a standby that is not used because another JWT library cannot read its tokens.
    #[must_use]
    pub fn is_unreadable(&self, id: &KeyId) -> bool {
        let row = self.rows.signing.iter().find(|row| row.id == *id);
        row.is_some_and(|row| {
            let item = SealedItem::SigningKey(&row.id, row.algorithm).to_string();
            let mut unusable = self.unusable_rows.iter();
            unusable.any(|row| row.item == item && matches!(row.error, UnsealError::Unreadable(_)))
        })
    }

    /// Whether the row of this secret does not open because it was changed.
    #[must_use]
    pub fn is_tampered_secret(&self, purpose: SecretPurpose, id: u32) -> bool {
        self.is_item_tampered(SealedItem::Secret(purpose, id))
    }

    fn is_item_tampered(&self, item: SealedItem<'_>) -> bool {
        let item = item.to_string();
        self.unusable_rows
            .iter()
            .any(|row| row.item == item && row.error == UnsealError::Tampered)
    }

    fn add_unusable(&mut self, item: SealedItem<'_>, error: UnsealError, checks: &[CheckRow]) {
        // Each master key that ever sealed has a check value. A name without one means that the sealed text was changed.
        let error = match error {
            UnsealError::UnknownMaster(name) if checks.iter().any(|check| check.name == name) => {
                UnsealError::UnknownMaster(name)
            }
            UnsealError::UnknownMaster(_) | UnsealError::Tampered => UnsealError::Tampered,
            error @ UnsealError::Unreadable(_) => error,
        };
        let item = item.to_string();
        self.unusable_rows.push(UnusableRow { item, error });
    }
}

/// Refuses a standby whose tokens another JWT library cannot read: it must not sign. A key that signs or has signed stays,
/// because tokens of it are in use.
fn check_standby(unsealed: UnsealedKey) -> Result<UnsealedKey, UnsealError> {
    if unsealed.listed.state == KeyState::Pending {
        published::check_new(&unsealed.key).map_err(UnsealError::Unreadable)?;
    }
    Ok(unsealed)
}

/// The number of the refresh key that tags new tokens; see [`KeyRing::open`] for `settled`.
fn tagging_key(rows: &KeyRows, unsealed: &BTreeMap<u32, RefreshKey>, settled: UnixMillis) -> Option<u32> {
    let of_refresh = |row: &&SecretRow| row.purpose == SecretPurpose::Refresh && unsealed.contains_key(&row.id);
    let known = || rows.secrets.iter().filter(of_refresh);
    let newest = known().filter(|row| row.created <= settled).map(|row| row.id).max();
    newest.or_else(|| known().map(|row| row.id).min())
}

#[cfg(test)]
mod tests;
