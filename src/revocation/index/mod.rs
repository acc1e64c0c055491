//! The revocation index: all revocations that can concern an unexpired access token.

mod entries;
mod rows;
mod shards;
mod snapshot;
mod table;

use std::time::Duration;

pub use self::entries::Index;
pub use self::snapshot::SnapshotCursor;
use crate::clock::UnixMillis;
use crate::model::Revocation;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;

/// The longest life of an access token, plus the time that one may take that was being signed while its revocation was
/// recorded.
pub(super) const LONGEST_TOKEN: Duration = MAX_ACCESS_TOKEN_TTL.saturating_add(Duration::from_mins(1));

/// When every access token that `revocation` concerns has expired.
#[must_use]
pub fn retained_until(revocation: &Revocation) -> UnixMillis {
    revocation.expires.min(revocation.revoked.plus(LONGEST_TOKEN))
}

#[cfg(test)]
mod tests;
