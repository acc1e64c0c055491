//! Tokens that were verified already.
//!
//! A hit saves the signature check and the parsing, nothing else: expiry, audience, scopes and revocation are looked at
//! every time. The key is the whole token, compared byte for byte, so no collision of hashes can confuse two tokens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quick_cache::Weighter;

use super::verify::Verified;
use crate::clock::UnixMillis;
#[cfg(feature = "server")]
use crate::model::Caller;
use crate::model::Claims;
use crate::model::revocation::RevocationSubject;

/// A token whose signature and claims were good.
#[derive(Debug)]
pub struct Known {
    /// What it says.
    pub claims: Arc<Claims>,
    /// What it stands on.
    pub revocation_subject: RevocationSubject,
    /// When it expires, leeway included.
    pub expires: UnixMillis,
    /// The version of the key ring that verified it.
    ring: u64,
    /// The claims as the wire wants them, made once by whoever sends them.
    pub encoded: OnceLock<Bytes>,
    /// What a proxy is told of a request that shows this token and is otherwise plain, made once by whoever tells it.
    #[cfg(feature = "server")]
    pub passed: OnceLock<Bytes>,
    #[cfg(feature = "server")]
    /// The caller that shows this token, made once by whoever lets callers in; none if it is not meant for that.
    pub caller: OnceLock<Option<Arc<Caller>>>,
}

impl Known {
    /// The token as verified under this version of the key ring.
    #[must_use]
    pub fn new(verified: Verified, ring: u64, leeway: std::time::Duration) -> Self {
        let Verified { claims, key_id } = verified;
        Self {
            revocation_subject: RevocationSubject::of_claims(&claims, key_id),
            expires: UnixMillis::from_secs(claims.exp).plus(leeway),
            claims: Arc::new(claims),
            ring,
            encoded: OnceLock::new(),
            #[cfg(feature = "server")]
            passed: OnceLock::new(),
            #[cfg(feature = "server")]
            caller: OnceLock::new(),
        }
    }
}

/// What an entry costs beside its text: the claims as data and as wire bytes, ids, the table.
const OVERHEAD: u64 = 1024;

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Box<str>, Arc<Known>> for Weight {
    fn weight(&self, token: &Box<str>, _: &Arc<Known>) -> u64 {
        // The text; about as much for the claims as data and as wire bytes; twice as much for what a proxy is told.
        OVERHEAD + 5 * token.len() as u64
    }
}

/// The cache, bounded by bytes.
#[derive(Debug)]
pub struct Cache {
    entries: quick_cache::sync::Cache<Box<str>, Arc<Known>, Weight>,
    /// The newest version of the key ring that was seen.
    ring: AtomicU64,
}

impl Cache {
    /// An empty cache of at most this many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let typical = OVERHEAD + 5 * 700;
        let items = usize::try_from(bytes / typical).unwrap_or(usize::MAX).max(1);
        Self {
            entries: quick_cache::sync::Cache::with_weighter(items, bytes, Weight),
            ring: AtomicU64::new(0),
        }
    }

    /// The entry of `token`, if this version of the key ring verified it. A new version empties the cache.
    #[must_use]
    pub fn get(&self, token: &str, ring: u64) -> Option<Arc<Known>> {
        if self.ring.load(Ordering::Acquire) < ring && self.ring.fetch_max(ring, Ordering::AcqRel) < ring {
            self.entries.clear();
        }
        self.entries.get(token).filter(|known| known.ring == ring)
    }

    /// Keeps a verified token.
    pub fn put(&self, token: &str, known: &Arc<Known>) {
        self.entries.insert(token.into(), known.clone());
    }

    /// How many tokens it holds, and their weight in bytes.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.weight())
    }
}
