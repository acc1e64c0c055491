//! Rows of the store, made and opened.

use super::jwk;
use super::public::PublicKey;
use super::ring::ListedKey;
use super::seal::{Master, Subject, Unopened};
use super::signing::SigningKey;
use crate::clock::UnixMillis;
use crate::model::{Error, KeyState, Result};
use crate::secret::{Entropy, SecretBytes};
use crate::store::keys::{SecretPurpose, SecretRow, SigningRow};

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

/// Opens a signing key: everything that the row says of it must agree with what was sealed.
pub(super) fn open_signing(row: &SigningRow, master: &Master) -> Result<Opened, Unopened> {
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

/// Opens a symmetric secret.
pub(super) fn open_secret(row: &SecretRow, master: &Master) -> Result<SecretBytes<32>, Unopened> {
    let plain = master.open(Subject::Secret(row.purpose, row.id), &row.sealed)?;
    let bytes = plain.as_slice().try_into().map_err(|_| Unopened::Tampered)?;
    Ok(SecretBytes::new(bytes))
}
