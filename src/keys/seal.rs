//! Sealing: private keys and secrets are stored as AES-256-GCM ciphertext under keys derived from the master keyring.
//!
//! A sealed text is `1 | name of the master key (8 bytes) | nonce (12 bytes) | ciphertext and tag`. The identity of the
//! secret ([`SealedItem`]) is associated data, so a sealed text does not open in the row of another secret. The master key
//! itself encrypts nothing: HKDF-SHA256 (RFC 5869) derives one key for each purpose.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::parse_master_keys;
use crate::model::{Algorithm, Error, KeyId, Result};
use crate::secret::{Entropy, SecretBytes, SecretText, random};
use crate::store::keys::SecretPurpose;

const VERSION: u8 = 1;
const NAME_LEN: usize = 8;

/// The identity of a sealed secret; the associated data of its ciphertext.
#[derive(Clone, Copy, Debug)]
pub enum SealedItem<'a> {
    /// The private key of a signing key.
    SigningKey(&'a KeyId, Algorithm),
    /// A symmetric secret, by its purpose and number.
    Secret(SecretPurpose, u32),
    /// The check value of the master key with this name.
    CheckValue(&'a str),
}

impl SealedItem<'_> {
    fn associated_data(&self) -> String {
        match self {
            Self::SigningKey(id, algorithm) => format!("signing\0{id}\0{}", algorithm.as_str()),
            Self::Secret(purpose, id) => format!("secret\0{}\0{id}", purpose.as_str()),
            Self::CheckValue(name) => format!("check\0{name}"),
        }
    }
}

impl fmt::Display for SealedItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SigningKey(id, algorithm) => write!(f, "signing key {id} ({})", algorithm.as_str()),
            Self::Secret(purpose, id) => write!(f, "{} secret {id}", purpose.as_str()),
            Self::CheckValue(name) => write!(f, "check value of master key {name}"),
        }
    }
}

/// Why a sealed text does not open, or is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The master key with this name sealed it, and the keyring lacks that key.
    #[error("sealed under master key {0}, which is not in keys.master_key")]
    UnknownMaster(String),
    /// It is not the text that was sealed for this item.
    #[error("the sealed text was changed")]
    Tampered,
    /// It opens, but a JWT library other than ours cannot read tokens of this key.
    #[error("the key {0}")]
    Unreadable(String),
}

struct MasterKey {
    prefix: [u8; NAME_LEN],
    name: String,
    seal: LessSafeKey,
    throttle: hmac::Key,
}

/// The master keyring: the first key seals, each key opens.
pub struct MasterKeyring {
    first: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeyring {
    /// Reads the value of `keys.master_key`; see [`parse_master_keys`] for what is accepted.
    ///
    /// # Errors
    /// `INVALID_REQUEST` at `keys.master_key`, with the number of the malformed entry.
    pub fn parse(text: &SecretText) -> Result<Self> {
        let keys = parse_master_keys(text).map_err(|error| Error::invalid(error.key, error.problem))?;
        let mut keys = keys.iter().map(|key| MasterKey::derive(key.expose()));
        let none = || Error::invalid("keys.master_key", "must not be empty");
        Ok(Self {
            first: keys.next().ok_or_else(none)??,
            others: keys.collect::<Result<_>>()?,
        })
    }

    /// Generates a master key, in the form that [`MasterKeyring::parse`] reads.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> SecretText {
        SecretText::new(STANDARD.encode(SecretBytes::<32>::generate(entropy).expose()))
    }

    /// Seals `plain` under the first key.
    pub fn seal(&self, item: SealedItem<'_>, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
        self.first.seal(item, plain, entropy)
    }

    /// Opens a text that any of the keys sealed for `item`.
    pub fn unseal(&self, item: SealedItem<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (prefix, rest) = split(sealed).ok_or(UnsealError::Tampered)?;
        let key = self.keys().find(|key| key.prefix == prefix);
        key.ok_or_else(|| UnsealError::UnknownMaster(hex_name(prefix)))?
            .unseal(item, rest)
    }

    /// Whether `sealed` names the first key, so that resealing it is unnecessary.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        split(sealed).is_some_and(|(prefix, _)| prefix == self.first.prefix)
    }

    /// A pseudonym of `name` for the key of a throttle's counter: a truncated HMAC, the same on every replica, from which
    /// `name` cannot be found without the master key. Changes with the first master key.
    #[must_use]
    pub fn throttle_name(&self, name: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&hmac::sign(&self.first.throttle, name).as_ref()[..16]);
        out
    }

    /// The names of the keys, in order. They are derived from the keys and reveal nothing of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys().map(|key| key.name.as_str())
    }

    /// Seals the check value of the key with this name, under that key.
    pub(super) fn seal_check(&self, name: &str, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
        let key = self.keys().find(|key| key.name == name);
        key.ok_or_else(|| Error::internal("no master key has this name"))?.seal(
            SealedItem::CheckValue(name),
            plain,
            entropy,
        )
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for MasterKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Master")
            .field(&self.names().collect::<Vec<_>>())
            .finish()
    }
}

impl MasterKey {
    fn derive(bytes: &[u8; 32]) -> Result<Self> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"countersign").extract(bytes);
        let derived = |label: &str| -> Result<Zeroizing<[u8; 32]>> {
            let mut out = Zeroizing::new([0; 32]);
            let label = [label.as_bytes()];
            let expanded = extracted.expand(&label, hkdf::HKDF_SHA256);
            expanded
                .and_then(|okm| okm.fill(&mut *out))
                .map_err(|_| Error::internal("key derivation failed"))?;
            Ok(out)
        };
        let seal = UnboundKey::new(&AES_256_GCM, &*derived("seal v1")?);
        let mut prefix = [0; NAME_LEN];
        prefix.copy_from_slice(&derived("name v1")?[..NAME_LEN]);
        Ok(Self {
            prefix,
            name: hex_name(prefix),
            seal: LessSafeKey::new(seal.map_err(|_| Error::internal("key derivation failed"))?),
            throttle: hmac::Key::new(hmac::HMAC_SHA256, &*derived("throttle names v1")?),
        })
    }

    fn seal(&self, item: SealedItem<'_>, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
        // A master key seals a few texts a month, and 2³² random nonces are safe (SP 800-38D §8.3).
        let nonce: [u8; NONCE_LEN] = random(entropy);
        let mut text = plain.to_vec();
        self.seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(item.associated_data()),
                &mut text,
            )
            .map_err(|_| Error::internal("sealing failed"))?;
        Ok([&[VERSION][..], &self.prefix, &nonce, &text].concat())
    }

    fn unseal(&self, item: SealedItem<'_>, rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(UnsealError::Tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Tampered)?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self
            .seal
            .open_in_place(nonce, Aad::from(item.associated_data()), &mut text);
        let len = opened.map_err(|_| UnsealError::Tampered)?.len();
        text.truncate(len);
        Ok(text)
    }
}

/// Splits a sealed text into the name of its master key and the rest; `None` if it has another format.
fn split(sealed: &[u8]) -> Option<([u8; NAME_LEN], &[u8])> {
    let (prefix, rest) = sealed.strip_prefix(&[VERSION])?.split_first_chunk()?;
    Some((*prefix, rest))
}

/// A master key's name as the check values, logs and error messages show it: 16 hexadecimal digits.
fn hex_name(prefix: [u8; NAME_LEN]) -> String {
    format!("{:016x}", u64::from_be_bytes(prefix))
}

#[cfg(test)]
mod tests;
