//! Which key signs next: decisions over a ring, without a store.

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::keys::ring::{KeyRing, ListedKey};
use crate::keys::rows::{Opened, Provenance};
use crate::model::{Algorithm, KeyId, KeyState};

/// Whether and how the ACTIVE key has to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It has not.
    No,
    /// As soon as everybody knows its successor.
    WhenKnown,
    /// At once: it cannot sign.
    AtOnce,
}

/// Whether rotation is due: after `period`; when the configured algorithm is another; when one was asked for (which is
/// a second standby); at once when the ACTIVE key was tampered with.
///
/// An imported key keeps its place for a whole period whatever its algorithm: somebody put it there.
pub(super) fn due(ring: &KeyRing, algorithm: Algorithm, period: Duration, now: UnixMillis) -> Due {
    let Some(active) = ring.opened().iter().find(|key| key.listed.state == KeyState::Active) else {
        let elsewhere = ring.active_id().is_some_and(|id| !ring.is_tampered(id));
        // It may well open on replicas whose master keyring is complete.
        return if elsewhere { Due::No } else { Due::AtOnce };
    };
    let old = active
        .listed
        .activated
        .is_none_or(|activated| activated.plus(period) <= now);
    let other = active.listed.algorithm != algorithm && active.provenance == Provenance::Generated;
    if old || other || is_asked_for(ring, algorithm) {
        Due::WhenKnown
    } else {
        Due::No
    }
}

/// Whether a rotation was asked for and has not happened: there are two standbys that we made.
pub(super) fn is_asked_for(ring: &KeyRing, algorithm: Algorithm) -> bool {
    let ours = |key: &&Opened| key.listed.algorithm == algorithm && key.provenance == Provenance::Generated;
    pending(ring).filter(ours).count() > 1
}

/// Whether there is a standby of the algorithm.
pub(super) fn has_standby(ring: &KeyRing, algorithm: Algorithm) -> bool {
    pending(ring).any(|key| key.listed.algorithm == algorithm)
}

/// The keys that could sign next, best first: imported ones, then by how long they have been published.
pub(super) fn successors(ring: &KeyRing, algorithm: Algorithm) -> Vec<ListedKey> {
    let fits = |key: &&Opened| key.listed.algorithm == algorithm || key.provenance == Provenance::Imported;
    let mut keys: Vec<&Opened> = pending(ring).filter(fits).collect();
    keys.sort_by_key(|key| (key.provenance == Provenance::Generated, key.listed.created));
    keys.into_iter().map(|key| key.listed.clone()).collect()
}

/// The key that steps in when `revoked` must not sign any more: of the configured algorithm if there is one, and the one
/// that caches have known longest.
pub(super) fn stand_in(ring: &KeyRing, algorithm: Algorithm, revoked: &KeyId) -> Option<KeyId> {
    pending(ring)
        .filter(|key| key.listed.id != *revoked)
        .min_by_key(|key| (key.listed.algorithm != algorithm, key.listed.created))
        .map(|key| key.listed.id.clone())
}

/// The keys of which no token can be good any more: `span` after they ceased to sign.
pub(super) fn over(ring: &KeyRing, span: Duration, now: UnixMillis) -> Vec<KeyId> {
    let ended = |key: &ListedKey| match key.state {
        KeyState::Pending | KeyState::Active => None,
        KeyState::Retired => key.retired,
        KeyState::Revoked => key.revoked,
    };
    let is_over = |key: &ListedKey| ended(key).is_some_and(|ended| ended.plus(span) <= now);
    ring.listed().filter(is_over).map(|key| key.id).collect()
}

fn pending(ring: &KeyRing) -> impl Iterator<Item = &Opened> {
    ring.opened().iter().filter(|key| key.listed.state == KeyState::Pending)
}

#[cfg(test)]
mod tests;
