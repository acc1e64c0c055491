//! The key ring: one immutable picture of everything that the store keeps of keys, opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::refresh::RefreshKey;
use super::rows::{Opened, open_secret, open_signing};
use super::seal::{Master, Subject, Unopened};
use super::signing::SigningKey;
use super::verifying::VerifyingKeys;
use crate::clock::UnixMillis;
use crate::model::{Algorithm, KeyId, KeyState};
use crate::secret::{SecretBytes, sha256};
use crate::store::keys::{CheckRow, KeyRows, SecretPurpose, SecretRow, SigningRow};

/// What is told of a signing key: its public facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// RFC 7638 thumbprint.
    pub id: KeyId,
    /// How it signs.
    pub algorithm: Algorithm,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was published.
    pub created: UnixMillis,
    /// When it began to sign.
    pub activated: Option<UnixMillis>,
    /// When it ceased to sign.
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

/// A row that was refused: it is not in use, whatever it says. Each is an error in the log and a count in the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which, in words.
    pub what: String,
    /// Why.
    pub why: Unopened,
}

/// All keys, of one moment. Rows that do not open under the master keyring are left out entirely: a public half whose
/// private half was not sealed by us could have been put there by anybody who can write to the database.
#[derive(Debug)]
pub struct KeyRing {
    rows: KeyRows,
    opened: Vec<Opened>,
    refresh: BTreeMap<u32, RefreshKey>,
    tagging: Option<u32>,
    peppers: BTreeMap<u32, SecretBytes<32>>,
    verifying: Arc<VerifyingKeys>,
    jwks_json: String,
    etag: String,
    refused: Vec<Refused>,
    version: u64,
}

impl KeyRing {
    /// Opens all rows. A refresh key made after `settled` is known but not tagged with yet: other replicas may not have
    /// loaded it (unless there is no other).
    #[must_use]
    pub fn open(rows: KeyRows, master: &Master, settled: UnixMillis) -> Self {
        let mut ring = Self {
            opened: Vec::new(),
            refresh: BTreeMap::new(),
            tagging: None,
            peppers: BTreeMap::new(),
            verifying: Arc::default(),
            jwks_json: String::new(),
            etag: String::new(),
            refused: Vec::new(),
            rows: KeyRows::default(),
            version: 0,
        };
        let mut verifying = VerifyingKeys::default();
        for row in &rows.signing {
            if row.state == KeyState::Revoked {
                verifying.note(&row.id, row.state, None);
                continue;
            }
            match open_signing(row, master) {
                Ok(opened) => {
                    verifying.insert(opened.key.public().clone(), row.retired);
                    ring.opened.push(opened);
                }
                Err(why) => ring.refuse(Subject::Signing(&row.id, row.algorithm), why, &rows.checks),
            }
        }
        for row in &rows.secrets {
            match open_secret(row, master) {
                Ok(secret) => match row.purpose {
                    SecretPurpose::Refresh => drop(ring.refresh.insert(row.id, RefreshKey::new(&secret))),
                    SecretPurpose::Pepper => drop(ring.peppers.insert(row.id, secret)),
                },
                Err(why) => ring.refuse(Subject::Secret(row.purpose, row.id), why, &rows.checks),
            }
        }
        ring.tagging = tagging(&rows, &ring.refresh, settled);
        ring.jwks_json = verifying.jwks_json();
        let digest = sha256(ring.jwks_json.as_bytes());
        ring.etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..12]));
        ring.verifying = Arc::new(verifying);
        ring.rows = rows;
        ring
    }

    /// This ring as the replica's `version`th.
    #[must_use]
    pub(super) fn numbered(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Counts the rings of this replica, so that what was verified under an earlier one is known.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The key that signs now, if it opened.
    #[must_use]
    pub fn active(&self) -> Option<&SigningKey> {
        let found = self
            .opened
            .iter()
            .find(|opened| opened.listed.state == KeyState::Active);
        found.map(|opened| &opened.key)
    }

    /// The id of the key that the store says is ACTIVE, whether or not it opened.
    #[must_use]
    pub fn active_id(&self) -> Option<&KeyId> {
        let found = self.rows.signing.iter().find(|row| row.state == KeyState::Active);
        found.map(|row| &row.id)
    }

    /// The refresh key that new tokens are tagged with: the newest that every replica has had the time to load.
    #[must_use]
    pub fn newest_refresh(&self) -> Option<(u32, &RefreshKey)> {
        let id = self.tagging?;
        self.refresh.get(&id).map(|key| (id, key))
    }

    /// The refresh key of this number.
    #[must_use]
    pub fn refresh_key(&self, id: u32) -> Option<&RefreshKey> {
        self.refresh.get(&id)
    }

    /// Every pepper by its number.
    pub fn peppers(&self) -> impl Iterator<Item = (u32, &SecretBytes<32>)> {
        self.peppers.iter().map(|(id, pepper)| (*id, pepper))
    }

    /// The pepper of this number.
    #[must_use]
    pub fn pepper(&self, id: u32) -> Option<&SecretBytes<32>> {
        self.peppers.get(&id)
    }

    /// The pepper that new hashes are made with.
    #[must_use]
    pub fn newest_pepper(&self) -> Option<(u32, &SecretBytes<32>)> {
        self.peppers.last_key_value().map(|(id, pepper)| (*id, pepper))
    }

    /// What verifies.
    #[must_use]
    pub const fn verifying(&self) -> &Arc<VerifyingKeys> {
        &self.verifying
    }

    /// All signing keys of the store, oldest first, those that did not open too.
    pub fn listed(&self) -> impl Iterator<Item = ListedKey> {
        self.rows.signing.iter().map(ListedKey::from)
    }

    /// The JSON Web Key Set (RFC 7517 §5): PENDING, ACTIVE and RETIRED keys.
    #[must_use]
    pub fn jwks_json(&self) -> &str {
        &self.jwks_json
    }

    /// The entity tag of the key set (RFC 9110 §8.8.3), with its quotation marks: the same on every replica.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The rows that are not in use.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Whether opening `rows` now would give this same ring.
    pub(super) fn is_of(&self, rows: &KeyRows, settled: UnixMillis) -> bool {
        self.rows == *rows && self.tagging == tagging(rows, &self.refresh, settled)
    }

    /// What the ring was opened from.
    #[must_use]
    pub const fn rows(&self) -> &KeyRows {
        &self.rows
    }

    /// The signing keys that opened, oldest first; REVOKED ones are left closed.
    #[must_use]
    pub fn opened(&self) -> &[Opened] {
        &self.opened
    }

    /// Whether the row of this signing key was refused because it is not what was sealed.
    #[must_use]
    pub fn is_tampered(&self, id: &KeyId) -> bool {
        let row = self.rows.signing.iter().find(|row| row.id == *id);
        row.is_some_and(|row| self.is_tampered_with(Subject::Signing(&row.id, row.algorithm)))
    }

    /// The same for a secret.
    #[must_use]
    pub fn is_tampered_secret(&self, purpose: SecretPurpose, id: u32) -> bool {
        self.is_tampered_with(Subject::Secret(purpose, id))
    }

    fn is_tampered_with(&self, subject: Subject<'_>) -> bool {
        let what = subject.to_string();
        self.refused
            .iter()
            .any(|refused| refused.what == what && refused.why == Unopened::Tampered)
    }

    fn refuse(&mut self, subject: Subject<'_>, why: Unopened, checks: &[CheckRow]) {
        // Every master key that ever sealed has a check value: a name that has none is a changed byte.
        let why = match why {
            Unopened::UnknownMaster(name) if checks.iter().any(|check| check.name == name) => {
                Unopened::UnknownMaster(name)
            }
            Unopened::UnknownMaster(_) | Unopened::Tampered => Unopened::Tampered,
        };
        let what = subject.to_string();
        self.refused.push(Refused { what, why });
    }
}

fn tagging(rows: &KeyRows, opened: &BTreeMap<u32, RefreshKey>, settled: UnixMillis) -> Option<u32> {
    let of_refresh = |row: &&SecretRow| row.purpose == SecretPurpose::Refresh && opened.contains_key(&row.id);
    let known = || rows.secrets.iter().filter(of_refresh);
    let newest = known().filter(|row| row.created <= settled).map(|row| row.id).max();
    newest.or_else(|| known().map(|row| row.id).min())
}

#[cfg(test)]
mod tests;
