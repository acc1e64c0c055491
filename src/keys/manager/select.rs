//! Decisions about which key signs next. They depend on the ring alone and call no store.

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::keys::ring::{KeyRing, ListedKey};
use crate::keys::rows::{KeySource, UnsealedKey};
use crate::model::{Algorithm, KeyId, KeyState};

/// Whether a rotation of the ACTIVE key is due, and when it may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RotationDue {
    /// No rotation is due.
    No,
    /// Once each live replica has loaded the successor.
    WhenLoadedEverywhere,
    /// Immediately, because the ACTIVE key cannot sign.
    Immediately,
}

/// Whether a rotation is due: after `period`, when the configured algorithm changed, or when one was requested (see
/// [`is_rotation_requested`]); immediately when the ACTIVE key was tampered with.
///
/// An imported key signs for a whole period whatever its algorithm, because an operator chose it.
pub(super) fn rotation_due(ring: &KeyRing, algorithm: Algorithm, period: Duration, now: UnixMillis) -> RotationDue {
    let Some(active) = ring.unsealed().iter().find(|key| key.listed.state == KeyState::Active) else {
        // A key that was not tampered with may open on replicas that have its master key.
        let elsewhere = ring.active_id().is_some_and(|id| !ring.is_tampered(id));
        return if elsewhere {
            RotationDue::No
        } else {
            RotationDue::Immediately
        };
    };
    let old = active
        .listed
        .activated
        .is_none_or(|activated| activated.plus(period) <= now);
    let other = active.listed.algorithm != algorithm && active.source == KeySource::Generated;
    if old || other || is_rotation_requested(ring, algorithm) {
        RotationDue::WhenLoadedEverywhere
    } else {
        RotationDue::No
    }
}

/// Whether a rotation was requested and has not happened yet. The request is a second standby of the configured algorithm
/// that this service generated.
pub(super) fn is_rotation_requested(ring: &KeyRing, algorithm: Algorithm) -> bool {
    let generated = |key: &&UnsealedKey| key.listed.algorithm == algorithm && key.source == KeySource::Generated;
    pending(ring).filter(generated).count() > 1
}

/// Whether there is a standby with this algorithm.
pub(super) fn has_standby(ring: &KeyRing, algorithm: Algorithm) -> bool {
    pending(ring).any(|key| key.listed.algorithm == algorithm)
}

/// The keys that may sign next, best first: imported keys, then the others; in each group the longest published first.
pub(super) fn successors(ring: &KeyRing, algorithm: Algorithm) -> Vec<ListedKey> {
    let fits = |key: &&UnsealedKey| key.listed.algorithm == algorithm || key.source == KeySource::Imported;
    let mut keys: Vec<&UnsealedKey> = pending(ring).filter(fits).collect();
    keys.sort_by_key(|key| (key.source == KeySource::Generated, key.listed.created));
    keys.into_iter().map(|key| key.listed.clone()).collect()
}

/// The key that signs after the revocation of `revoked`: one with the configured algorithm if there is one, and of those the
/// longest published, which most caches know.
pub(super) fn replacement(ring: &KeyRing, algorithm: Algorithm, revoked: &KeyId) -> Option<KeyId> {
    pending(ring)
        .filter(|key| key.listed.id != *revoked)
        .min_by_key(|key| (key.listed.algorithm != algorithm, key.listed.created))
        .map(|key| key.listed.id.clone())
}

/// The keys whose tokens have all expired: those that stopped signing at least `span` ago.
pub(super) fn expired_keys(ring: &KeyRing, span: Duration, now: UnixMillis) -> Vec<KeyId> {
    let ended = |key: &ListedKey| match key.state {
        KeyState::Pending | KeyState::Active => None,
        KeyState::Retired => key.retired,
        KeyState::Revoked => key.revoked,
    };
    let has_expired = |key: &ListedKey| ended(key).is_some_and(|ended| ended.plus(span) <= now);
    ring.listed().filter(has_expired).map(|key| key.id).collect()
}

fn pending(ring: &KeyRing) -> impl Iterator<Item = &UnsealedKey> {
    ring.unsealed()
        .iter()
        .filter(|key| key.listed.state == KeyState::Pending)
}

#[cfg(test)]
mod tests;
