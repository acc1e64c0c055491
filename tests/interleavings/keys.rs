//! The keys of the service, and the key set of a verifier with the atomics of loom.

#[path = "../../src/client/verifier/numbered_keys.rs"]
mod numbered_keys;

pub(crate) use countersign::keys::*;

use self::numbered_keys::NumberedKeys;
use self::verifying::VerifyingKeys;

/// What [`NumberedKeys`] shows to its verifier only.
#[derive(Default)]
pub(crate) struct FollowedKeys(NumberedKeys);

impl FollowedKeys {
    pub(crate) fn set(&self, keys: VerifyingKeys) {
        self.0.set(keys);
    }

    pub(crate) fn version(&self) -> u64 {
        self.0.version()
    }

    pub(crate) fn get(&self) -> (std::sync::Arc<VerifyingKeys>, u64) {
        self.0.get()
    }
}
