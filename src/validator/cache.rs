//! The cache of verified tokens.
//!
//! A hit saves the signature check and the parsing, nothing else: expiry, audience, scopes and revocation are checked at
//! every use. The key is the whole token, compared byte for byte, so that a hash collision cannot confuse two tokens.

use std::sync::Arc;

use quick_cache::Weighter;

use crate::keys::verified::VerifiedToken;
use crate::sync::{AtomicU64, Ordering};

/// What an entry costs beside its text, in bytes: claims, ids, the entry in the table.
const ENTRY_OVERHEAD: u64 = 1024;

/// The cost of an entry as a multiple of the token's length: 1 for the text, 2 for the claims as data and encoded, 2 for
/// an encoded answer to a proxy.
const LENGTH_FACTOR: u64 = 5;

/// The length of a typical token, in bytes.
const TYPICAL_LENGTH: u64 = 700;

#[derive(Clone, Debug)]
struct Entry {
    token: Arc<VerifiedToken>,
    /// The version of the key set that verified it.
    keys_version: u64,
}

#[derive(Clone, Debug)]
struct EntryWeight;

impl Weighter<Box<str>, Entry> for EntryWeight {
    fn weight(&self, access_token: &Box<str>, _: &Entry) -> u64 {
        ENTRY_OVERHEAD + LENGTH_FACTOR * access_token.len() as u64
    }
}

/// A cache of verified tokens, bounded by bytes.
#[derive(Debug)]
pub struct TokenCache {
    entries: quick_cache::sync::Cache<Box<str>, Entry, EntryWeight>,
    /// The newest version of the key set that was asked for.
    keys_version: AtomicU64,
}

impl TokenCache {
    /// An empty cache of at most `bytes` bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let typical = ENTRY_OVERHEAD + LENGTH_FACTOR * TYPICAL_LENGTH;
        let items = usize::try_from(bytes / typical).unwrap_or(usize::MAX).max(1);
        Self {
            entries: quick_cache::sync::Cache::with_weighter(items, bytes, EntryWeight),
            keys_version: AtomicU64::new(0),
        }
    }

    /// The verified token, if this version of the key set verified it. A newer version than before empties the cache.
    #[must_use]
    pub fn get(&self, access_token: &str, keys_version: u64) -> Option<Arc<VerifiedToken>> {
        if self.keys_version.load(Ordering::Acquire) < keys_version
            && self.keys_version.fetch_max(keys_version, Ordering::AcqRel) < keys_version
        {
            self.entries.clear();
        }
        let entry = self.entries.get(access_token)?;
        (entry.keys_version == keys_version).then_some(entry.token)
    }

    /// Adds a token that this version of the key set verified.
    pub fn put(&self, access_token: &str, token: &Arc<VerifiedToken>, keys_version: u64) {
        let entry = Entry {
            token: Arc::clone(token),
            keys_version,
        };
        self.entries.insert(access_token.into(), entry);
    }

    /// How many tokens it holds, and their weight in bytes.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.weight())
    }
}
