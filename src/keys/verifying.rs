//! The public keys with which a replica, a client library or a gateway verifies tokens.

use crate::clock::UnixMillis;
use crate::model::{Error, KeyId, KeyState, Result};

use super::jwk;
use super::public::PublicKey;

/// A key and its status.
#[derive(Clone, Debug)]
pub(super) enum KeyStatus {
    /// Verifies tokens; once retired, those issued before it retired.
    Good {
        key: PublicKey,
        retired: Option<UnixMillis>,
    },
    /// No token that it signed is valid. Its public key may be unknown.
    Revoked,
}

/// Public keys by `kid`. They are few, so a linear search finds them.
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys {
    keys: Vec<(KeyId, KeyStatus)>,
}

impl VerifyingKeys {
    /// Reads a JSON Web Key Set that Countersign published. The keys count as neither retired nor revoked.
    ///
    /// # Errors
    /// As [`jwk::parse_set`], and if a `kid` is not the RFC 7638 thumbprint of its key.
    pub fn from_jwks(text: &str) -> Result<Self> {
        let mut keys = Self::default();
        for (kid, key) in jwk::parse_set(text)? {
            if kid != key.id().as_str() {
                return Err(Error::invalid("jwks", "a `kid` is not the thumbprint of its key"));
            }
            keys.insert(key, None);
        }
        Ok(keys)
    }

    /// Adds a key, or replaces it and its status.
    pub fn insert(&mut self, key: PublicKey, retired: Option<UnixMillis>) {
        let id = key.id().clone();
        self.put(id, KeyStatus::Good { key, retired });
    }

    /// Records the state of a key (`KeySet.keys` of the API): RETIRED since `retired`, or REVOKED. An unknown key is added
    /// if it is REVOKED, and otherwise ignored.
    pub fn note(&mut self, id: &KeyId, state: KeyState, retired: Option<UnixMillis>) {
        match state {
            KeyState::Revoked => self.put(id.clone(), KeyStatus::Revoked),
            KeyState::Pending | KeyState::Active | KeyState::Retired => {
                if let Some(KeyStatus::Good { retired: known, .. }) = self.find_mut(id.as_str()) {
                    *known = retired;
                }
            }
        }
    }

    /// Whether this key is known, including as revoked.
    #[must_use]
    pub fn knows(&self, id: &KeyId) -> bool {
        self.find(id.as_str()).is_some()
    }

    /// The ids of the keys that are not revoked, in the order of the set.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.good().map(PublicKey::id)
    }

    pub(super) fn find(&self, kid: &str) -> Option<&(KeyId, KeyStatus)> {
        self.keys.iter().find(|(id, _)| id.as_str() == kid)
    }

    /// The key whose tokens have this encoded header, if it is not revoked.
    pub(super) fn find_by_header(&self, encoded: &str) -> Option<&PublicKey> {
        self.good().find(|key| key.token_header() == encoded)
    }

    fn find_mut(&mut self, kid: &str) -> Option<&mut KeyStatus> {
        let found = self.keys.iter_mut().find(|(id, _)| id.as_str() == kid);
        found.map(|(_, status)| status)
    }

    fn put(&mut self, id: KeyId, status: KeyStatus) {
        match self.find_mut(id.as_str()) {
            Some(known) => *known = status,
            None => self.keys.push((id, status)),
        }
    }

    /// The keys that are not revoked, in the order of the set.
    pub(super) fn good(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().filter_map(|(_, status)| match status {
            KeyStatus::Good { key, .. } => Some(key),
            KeyStatus::Revoked => None,
        })
    }
}
