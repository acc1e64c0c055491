//! What was only announced. A writer of Redis can announce anything, so nothing of it may reach the database.

use std::collections::HashMap;

use parking_lot::Mutex;
use uuid::Uuid;

use super::index::retained_until;
use crate::clock::UnixMillis;
use crate::model::{Revocation, SessionId, Target};

/// The most announcements of one entry that are told apart.
const MAX_ANNOUNCED: usize = 8;

/// The entries of the index that an announcement has changed, and that were neither read from the database nor recorded by this
/// replica with that change. Usually each stays here for less than a second.
#[derive(Debug, Default)]
pub(super) struct Unrecorded(Mutex<HashMap<Target, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    /// What was announced and is not recorded.
    announced: Vec<Revocation>,
    /// Whether there were too many to tell apart.
    is_flooded: bool,
    /// What is recorded of the same entry: the merged entry of the index does not tell it any more.
    recorded: Vec<Revocation>,
}

impl Unrecorded {
    /// Notes what is announced, unless the entry of its target stands for it already. `before`: what the entry stands for. Call it
    /// before the index changes, so that no reader takes the change for recorded.
    pub(super) fn announce(&self, announced: &Revocation, before: Vec<Revocation>) {
        if before.iter().any(|row| confirms(row, announced)) {
            return;
        }
        let mut entries = self.0.lock();
        let entry = entries.entry(key(&announced.target)).or_insert_with(|| Entry {
            recorded: before,
            ..Entry::default()
        });
        if entry.announced.len() < MAX_ANNOUNCED {
            entry.announced.push(announced.clone());
        } else {
            entry.is_flooded = true;
        }
    }

    /// Notes a recorded revocation.
    pub(super) fn record(&self, recorded: &Revocation) {
        let mut entries = self.0.lock();
        if entries.is_empty() {
            return;
        }
        let key = key(&recorded.target);
        let Some(entry) = entries.get_mut(&key) else { return };
        entry.announced.retain(|row| !confirms(recorded, row));
        if entry.announced.is_empty() && !entry.is_flooded {
            entries.remove(&key);
        } else {
            entry.recorded.retain(|row| !confirms(recorded, row));
            entry.recorded.push(recorded.clone());
        }
    }

    /// Whether the entry of this target may stand for more than is recorded.
    pub(super) fn contains(&self, target: &Target) -> bool {
        self.0.lock().contains_key(&key(target))
    }

    /// What is recorded of these entries.
    pub(super) fn recorded(&self) -> Vec<Revocation> {
        let entries = self.0.lock();
        entries.values().flat_map(|entry| entry.recorded.clone()).collect()
    }

    /// Forgets the entries that concern no token that is unexpired at `now`.
    pub(super) fn sweep(&self, now: UnixMillis) {
        let is_needed = |row: &Revocation| retained_until(row) >= now;
        self.0
            .lock()
            .retain(|_, entry| entry.announced.iter().chain(&entry.recorded).any(is_needed));
    }
}

/// The entry of the index to which revocations of this target belong: those of a user that keep a session are one.
fn key(target: &Target) -> Target {
    let mut key = target.clone();
    if let Target::User { keep: Some(keep), .. } = &mut key {
        *keep = SessionId(Uuid::nil());
    }
    key
}

/// Whether `recorded` stands for all of `announced`, which is of the same entry.
fn confirms(recorded: &Revocation, announced: &Revocation) -> bool {
    recorded.target == announced.target
        && recorded.epoch >= announced.epoch
        && recorded.expires >= announced.expires
        && recorded.revoked >= announced.revoked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserId;

    fn of_user(epoch: i64, keep: Option<u128>) -> Revocation {
        Revocation {
            target: Target::User {
                id: UserId(Uuid::from_u128(1)),
                keep: keep.map(|keep| SessionId(Uuid::from_u128(keep))),
            },
            epoch,
            expires: UnixMillis(1_000_000),
            revoked: UnixMillis(epoch),
        }
    }

    #[test]
    fn an_announcement_counts_once_it_is_recorded() {
        let unrecorded = Unrecorded::default();
        let (old, new) = (of_user(5, None), of_user(9, None));
        unrecorded.record(&old);
        unrecorded.announce(&new, vec![old.clone()]);
        assert!(unrecorded.contains(&old.target));
        assert_eq!(unrecorded.recorded(), vec![old.clone()]);
        unrecorded.record(&old);
        assert!(unrecorded.contains(&new.target), "an older one says nothing about it");
        unrecorded.record(&new);
        assert!(!unrecorded.contains(&new.target));
        assert!(unrecorded.recorded().is_empty());
    }

    #[test]
    fn revocations_that_keep_a_session_are_confirmed_one_by_one() {
        let unrecorded = Unrecorded::default();
        unrecorded.announce(&of_user(5, Some(2)), Vec::new());
        unrecorded.announce(&of_user(6, Some(3)), Vec::new());
        unrecorded.record(&of_user(6, Some(3)));
        assert!(
            unrecorded.contains(&of_user(7, Some(4)).target),
            "one entry of the index"
        );
        assert!(!unrecorded.contains(&of_user(7, None).target));
        unrecorded.record(&of_user(5, Some(2)));
        assert!(!unrecorded.contains(&of_user(5, Some(2)).target));
    }

    #[test]
    fn a_flood_of_announcements_stays_bounded_and_unrecorded() {
        let unrecorded = Unrecorded::default();
        for epoch in 0..1_000 {
            unrecorded.announce(&of_user(epoch, None), Vec::new());
        }
        assert_eq!(
            unrecorded.0.lock().values().next().unwrap().announced.len(),
            MAX_ANNOUNCED
        );
        unrecorded.record(&of_user(500, None));
        assert!(unrecorded.contains(&of_user(0, None).target));
        assert_eq!(unrecorded.recorded(), vec![of_user(500, None)]);
        unrecorded.sweep(UnixMillis(1_000_001));
        assert!(!unrecorded.contains(&of_user(0, None).target));
    }
}
