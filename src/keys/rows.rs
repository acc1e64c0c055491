//! Sealing keys into rows of the store, and opening such rows.

use super::jwk;
use super::public::PublicKey;
use super::ring::ListedKey;
use super::seal::{MasterKeyring, SealedItem, UnsealError};
use super::signing::SigningKey;
use crate::clock::UnixMillis;
use crate::model::{Error, KeyState, Result};
use crate::secret::{Entropy, SecretBytes};
use crate::store::keys::{SecretPurpose, SecretRow, SigningRow};

/// Where a private key came from. One byte before the sealed private key stores it, so it cannot be changed in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// This service generated it.
    Generated,
    /// An operator imported it with `key import`.
    Imported,
}

impl KeySource {
    const fn byte(self) -> u8 {
        match self {
            Self::Generated => 0,
            Self::Imported => 1,
        }
    }
}

/// A signing key whose row opened.
#[derive(Debug)]
pub struct UnsealedKey {
    /// Its public properties.
    pub listed: ListedKey,
    /// The key itself.
    pub key: SigningKey,
    /// Where the private key came from.
    pub source: KeySource,
}

/// Seals a new signing key into a row, in state PENDING.
pub fn signing_row(
    key: &SigningKey,
    source: KeySource,
    now: UnixMillis,
    master: &MasterKeyring,
    entropy: &dyn Entropy,
) -> Result<SigningRow> {
    let mut plain = key.to_pkcs8()?;
    plain.insert(0, source.byte());
    Ok(SigningRow {
        id: key.id().clone(),
        algorithm: key.algorithm(),
        public_jwk: key.public().canonical_jwk().to_owned(),
        sealed: master.seal(SealedItem::SigningKey(key.id(), key.algorithm()), &plain, entropy)?,
        state: KeyState::Pending,
        created: now,
        activated: None,
        retired: None,
        revoked: None,
    })
}

/// Generates a symmetric secret and seals it into a row.
pub fn secret_row(
    purpose: SecretPurpose,
    id: u32,
    now: UnixMillis,
    master: &MasterKeyring,
    entropy: &dyn Entropy,
) -> Result<SecretRow> {
    let secret = SecretBytes::<32>::generate(entropy);
    Ok(SecretRow {
        purpose,
        id,
        sealed: master.seal(SealedItem::Secret(purpose, id), secret.expose(), entropy)?,
        created: now,
    })
}

/// Opens a signing key. Its id, algorithm and public key in the row must agree with the sealed private key.
pub(super) fn unseal_signing_key(row: &SigningRow, master: &MasterKeyring) -> Result<UnsealedKey, UnsealError> {
    let plain = master.unseal(SealedItem::SigningKey(&row.id, row.algorithm), &row.sealed)?;
    let (source, pkcs8) = match plain.split_first() {
        Some((0, pkcs8)) => (KeySource::Generated, pkcs8),
        Some((1, pkcs8)) => (KeySource::Imported, pkcs8),
        _ => return Err(UnsealError::Tampered),
    };
    let key = SigningKey::from_pkcs8(row.algorithm, pkcs8).map_err(|_| UnsealError::Tampered)?;
    let public: Result<PublicKey, Error> = jwk::parse_public(&row.public_jwk);
    if *key.id() != row.id || public.ok().as_ref() != Some(key.public()) {
        return Err(UnsealError::Tampered);
    }
    Ok(UnsealedKey {
        listed: row.into(),
        key,
        source,
    })
}

/// Opens a symmetric secret.
pub(super) fn unseal_secret(row: &SecretRow, master: &MasterKeyring) -> Result<SecretBytes<32>, UnsealError> {
    let plain = master.unseal(SealedItem::Secret(row.purpose, row.id), &row.sealed)?;
    let bytes = plain.as_slice().try_into().map_err(|_| UnsealError::Tampered)?;
    Ok(SecretBytes::new(bytes))
}
