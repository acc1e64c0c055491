//! The key set of a verifier, with its version.

use std::sync::Arc;

use crate::keys::verifying::VerifyingKeys;
use crate::sync::{ArcSwap, AtomicU64, Ordering};

/// A key set and its version, which rises with each change. Readers take no lock.
#[derive(Default)]
pub(super) struct NumberedKeys {
    keys: ArcSwap<VerifyingKeys>,
    version: AtomicU64,
}

impl NumberedKeys {
    /// Replaces the key set. The keys come first: a token that is verified under the new keys and the old version is only
    /// verified again, while one under the old keys and the new version would be kept.
    pub(super) fn set(&self, keys: VerifyingKeys) {
        self.keys.store(Arc::new(keys));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// The version.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The key set, and a version that is not newer.
    pub(super) fn get(&self) -> (Arc<VerifyingKeys>, u64) {
        // In this order: see `set`.
        let version = self.version();
        (self.keys.load_full(), version)
    }
}
