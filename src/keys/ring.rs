//! The key ring: one immutable picture of everything that the store keeps of keys, opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::jwk;
use super::public::PublicKey;
use super::refresh::RefreshKey;
use super::seal::{Master, Subject, Unopened};
use super::signing::SigningKey;
use super::verifying::VerifyingKeys;
use crate::clock::UnixMillis;
use crate::model::{Algorithm, Error, KeyId, KeyState, Result};
use crate::secret::{Entropy, SecretBytes, sha256};
use crate::store::keys::{KeyRows, SecretPurpose, SecretRow, SigningRow};

/// Where a private half came from: sealed in front of it, so that nobody can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Made here.
    Generated,
    /// Brought along: `key import`.
    Imported,
}

impl Provenance {
    const fn byte(self) -> u8 {
        match self {
            Self::Generated => 0,
            Self::Imported => 1,
        }
    }
}

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

/// A signing key that opened.
#[derive(Debug)]
pub struct Opened {
    /// Its public facts.
    pub listed: ListedKey,
    /// The key itself.
    pub key: SigningKey,
    /// Where it came from.
    pub provenance: Provenance,
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
                Err(why) => ring.refuse(Subject::Signing(&row.id, row.algorithm), why),
            }
        }
        for row in &rows.secrets {
            match open_secret(row, master) {
                Ok(secret) => match row.purpose {
                    SecretPurpose::Refresh => drop(ring.refresh.insert(row.id, RefreshKey::new(&secret))),
                    SecretPurpose::Pepper => drop(ring.peppers.insert(row.id, secret)),
                },
                Err(why) => ring.refuse(Subject::Secret(row.purpose, row.id), why),
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

    fn refuse(&mut self, subject: Subject<'_>, why: Unopened) {
        self.refused.push(Refused {
            what: subject.to_string(),
            why,
        });
    }
}

/// The row of a new signing key, PENDING.
pub fn signing_row(
    key: &SigningKey,
    provenance: Provenance,
    now: UnixMillis,
    master: &Master,
    entropy: &dyn Entropy,
) -> Result<SigningRow> {
    let mut plain = key.to_pkcs8()?;
    plain.insert(0, provenance.byte());
    Ok(SigningRow {
        id: key.id().clone(),
        algorithm: key.algorithm(),
        public_jwk: key.public().canonical_jwk().to_owned(),
        sealed: master.seal(Subject::Signing(key.id(), key.algorithm()), &plain, entropy)?,
        state: KeyState::Pending,
        created: now,
        activated: None,
        retired: None,
        revoked: None,
    })
}

/// The row of a fresh symmetric secret.
pub fn secret_row(
    purpose: SecretPurpose,
    id: u32,
    now: UnixMillis,
    master: &Master,
    entropy: &dyn Entropy,
) -> Result<SecretRow> {
    let secret = SecretBytes::<32>::generate(entropy);
    Ok(SecretRow {
        purpose,
        id,
        sealed: master.seal(Subject::Secret(purpose, id), secret.expose(), entropy)?,
        created: now,
    })
}

fn tagging(rows: &KeyRows, opened: &BTreeMap<u32, RefreshKey>, settled: UnixMillis) -> Option<u32> {
    let of_refresh = |row: &&SecretRow| row.purpose == SecretPurpose::Refresh && opened.contains_key(&row.id);
    let known = || rows.secrets.iter().filter(of_refresh);
    let newest = known().filter(|row| row.created <= settled).map(|row| row.id).max();
    newest.or_else(|| known().map(|row| row.id).min())
}

fn open_signing(row: &SigningRow, master: &Master) -> Result<Opened, Unopened> {
    let plain = master.open(Subject::Signing(&row.id, row.algorithm), &row.sealed)?;
    let (provenance, pkcs8) = match plain.split_first() {
        Some((0, pkcs8)) => (Provenance::Generated, pkcs8),
        Some((1, pkcs8)) => (Provenance::Imported, pkcs8),
        _ => return Err(Unopened::Tampered),
    };
    let key = SigningKey::from_pkcs8(row.algorithm, pkcs8).map_err(|_| Unopened::Tampered)?;
    let public: Result<PublicKey, Error> = jwk::parse_public(&row.public_jwk);
    if *key.id() != row.id || public.ok().as_ref() != Some(key.public()) {
        return Err(Unopened::Tampered);
    }
    Ok(Opened {
        listed: row.into(),
        key,
        provenance,
    })
}

fn open_secret(row: &SecretRow, master: &Master) -> Result<SecretBytes<32>, Unopened> {
    let plain = master.open(Subject::Secret(row.purpose, row.id), &row.sealed)?;
    let bytes = plain.as_slice().try_into().map_err(|_| Unopened::Tampered)?;
    Ok(SecretBytes::new(bytes))
}
