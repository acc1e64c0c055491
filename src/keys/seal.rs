//! Sealing: private halves at rest are AES-256-GCM ciphertext under keys derived from the master keyring.
//!
//! A sealed text is `1 | name of the master key (8) | nonce (12) | ciphertext and tag`. What it is the secret of (the
//! key's id and algorithm, the purpose and number of a symmetric secret) is associated data, so that no sealed text can be
//! put in another's place. The master key itself encrypts nothing: HKDF-SHA256 (RFC 5869) derives one key a purpose.

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

/// What a sealed text is the secret of.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The private half of a signing key.
    Signing(&'a KeyId, Algorithm),
    /// A symmetric secret.
    Secret(SecretPurpose, u32),
    /// The check value of the master key of this name.
    Check(&'a str),
}

impl Subject<'_> {
    fn associated_data(&self) -> String {
        match self {
            Self::Signing(id, algorithm) => format!("signing\0{id}\0{}", algorithm.as_str()),
            Self::Secret(purpose, id) => format!("secret\0{}\0{id}", purpose.as_str()),
            Self::Check(name) => format!("check\0{name}"),
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signing(id, algorithm) => write!(f, "signing key {id} ({})", algorithm.as_str()),
            Self::Secret(purpose, id) => write!(f, "{} secret {id}", purpose.as_str()),
            Self::Check(name) => write!(f, "check value of master key {name}"),
        }
    }
}

/// Why a sealed text did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It says that it was sealed under a master key that is not in the keyring: this one's name.
    UnknownMaster(String),
    /// It is not what was sealed for this subject.
    Tampered,
}

struct MasterKey {
    prefix: [u8; NAME_LEN],
    name: String,
    seal: LessSafeKey,
    throttle: hmac::Key,
}

/// The master keyring: the first key seals, all of them open.
pub struct Master {
    first: MasterKey,
    others: Vec<MasterKey>,
}

impl Master {
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

    /// A fresh master key, as [`Master::parse`] reads it.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> SecretText {
        SecretText::new(STANDARD.encode(SecretBytes::<32>::generate(entropy).expose()))
    }

    /// Seals under the first key.
    pub fn seal(&self, subject: Subject<'_>, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
        self.first.seal(subject, plain, entropy)
    }

    /// Opens what any of the keys sealed for this subject.
    pub fn open(&self, subject: Subject<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (prefix, rest) = split(sealed).ok_or(Unopened::Tampered)?;
        let key = self.keys().find(|key| key.prefix == prefix);
        key.ok_or_else(|| Unopened::UnknownMaster(hex(prefix)))?
            .open(subject, rest)
    }

    /// Whether this was sealed under the key that seals now.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        split(sealed).is_some_and(|(prefix, _)| prefix == self.first.prefix)
    }

    /// Sixteen bytes that stand for a name in a throttle's counter: the same on every replica, and telling nothing of the
    /// name to who has no master key. Changes with the first master key.
    #[must_use]
    pub fn throttle_name(&self, name: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&hmac::sign(&self.first.throttle, name).as_ref()[..16]);
        out
    }

    /// The names of the keys, the first one first: derived, and telling nothing of the keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys().map(|key| key.name.as_str())
    }

    /// Seals under the key of this name, for its own check value.
    pub(super) fn seal_check(&self, name: &str, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
        let key = self.keys().find(|key| key.name == name);
        key.ok_or_else(|| Error::internal("no such master key"))?
            .seal(Subject::Check(name), plain, entropy)
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for Master {
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
            name: hex(prefix),
            seal: LessSafeKey::new(seal.map_err(|_| Error::internal("key derivation failed"))?),
            throttle: hmac::Key::new(hmac::HMAC_SHA256, &*derived("throttle names v1")?),
        })
    }

    fn seal(&self, subject: Subject<'_>, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
        // Random nonces: a master key seals a few texts a month, and 2³² would be safe (SP 800-38D §8.3).
        let nonce: [u8; NONCE_LEN] = random(entropy);
        let mut text = plain.to_vec();
        self.seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(subject.associated_data()),
                &mut text,
            )
            .map_err(|_| Error::internal("sealing failed"))?;
        Ok([&[VERSION][..], &self.prefix, &nonce, &text].concat())
    }

    fn open(&self, subject: Subject<'_>, rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(Unopened::Tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Tampered)?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self
            .seal
            .open_in_place(nonce, Aad::from(subject.associated_data()), &mut text);
        let len = opened.map_err(|_| Unopened::Tampered)?.len();
        text.truncate(len);
        Ok(text)
    }
}

/// The name of the master key, and what follows it; none if this is no sealed text at all.
fn split(sealed: &[u8]) -> Option<([u8; NAME_LEN], &[u8])> {
    let (prefix, rest) = sealed.strip_prefix(&[VERSION])?.split_first_chunk()?;
    Some((*prefix, rest))
}

/// A master key's name as the check values, logs and error messages show it: 16 hexadecimal digits.
fn hex(prefix: [u8; NAME_LEN]) -> String {
    format!("{:016x}", u64::from_be_bytes(prefix))
}

#[cfg(test)]
mod tests;
