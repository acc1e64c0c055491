//! The keys that verify: what a replica, a client library or a gateway knows of them.

use crate::clock::UnixMillis;
use crate::model::{Error, KeyId, KeyState, Result};

use super::jwk;
use super::public::PublicKey;

/// A key, and what became of it.
#[derive(Clone, Debug)]
pub(super) enum KeyStatus {
    /// Good for tokens that were issued until it retired.
    Good {
        key: PublicKey,
        retired: Option<UnixMillis>,
    },
    /// Nothing that it signed is good; its public half need not be known.
    Revoked,
}

/// Public keys by `kid`. A handful: looked up by comparing.
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys {
    keys: Vec<(KeyId, KeyStatus)>,
}

impl VerifyingKeys {
    /// Reads a JSON Web Key Set as Countersign publishes it: see [`jwk::parse_set`] for what is refused; besides, every
    /// `kid` must be its key's RFC 7638 thumbprint. None of the keys is taken for retired or revoked.
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

    /// Adds a key, or replaces what was known of it.
    pub fn insert(&mut self, key: PublicKey, retired: Option<UnixMillis>) {
        let id = key.id().clone();
        self.put(id, KeyStatus::Good { key, retired });
    }

    /// Notes what became of a key (`KeySet.keys` of the API): RETIRED since `retired`, or REVOKED. A revoked key need not
    /// be in the set; anything else about an unknown key is ignored.
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

    /// Whether this key is known, good or revoked.
    #[must_use]
    pub fn knows(&self, id: &KeyId) -> bool {
        self.find(id.as_str()).is_some()
    }

    /// The ids of the keys that are good, in the order of the set.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.good().map(PublicKey::id)
    }

    /// The JSON Web Key Set (RFC 7517 §5) of all that are not revoked.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        let keys: Vec<String> = self.good().map(PublicKey::published_jwk).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    pub(super) fn find(&self, kid: &str) -> Option<&(KeyId, KeyStatus)> {
        self.keys.iter().find(|(id, _)| id.as_str() == kid)
    }

    /// The key whose tokens have this header, if it is good.
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

    fn good(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().filter_map(|(_, status)| match status {
            KeyStatus::Good { key, .. } => Some(key),
            KeyStatus::Revoked => None,
        })
    }
}
