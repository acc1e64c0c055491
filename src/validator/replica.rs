//! The keys and revocations of a replica of the service.

use std::sync::Arc;

use super::TrustState;
use crate::clock::UnixMillis;
use crate::keys::manager::Keys;
use crate::keys::verifying::VerifyingKeys;
use crate::model::Result;
use crate::revocation::{Feed, Index};

/// The keys and revocations of a replica of the service, which follows the stores itself.
#[derive(Debug)]
pub struct ReplicaTrust {
    /// The key ring.
    pub keys: Arc<Keys>,
    /// The revocations.
    pub feed: Arc<Feed>,
}

impl TrustState for ReplicaTrust {
    fn keys_version(&self) -> u64 {
        self.keys.version()
    }

    fn keys(&self) -> (Arc<VerifyingKeys>, u64) {
        let ring = self.keys.current();
        (Arc::clone(ring.verifying()), ring.version())
    }

    fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R {
        read(self.feed.index())
    }

    fn as_of(&self, now: UnixMillis) -> Result<UnixMillis> {
        self.feed.as_of(now)
    }
}
