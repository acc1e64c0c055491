//! A hash map that can be read in parts while it changes.

use std::hash::{BuildHasher as _, Hash};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::rows::Entry;
use crate::clock::UnixMillis;
use crate::sync::RandomState;

/// A hash map whose entries lie in a list. The list is read in parts from its end to its start. A new entry is appended, and
/// the last entry takes the place of a removed one, so an entry that is not read yet never moves to a place that was already
/// read: a reader misses no entry that was there when it began.
///
/// `indexmap` works like this too, but also keeps each hash and wider positions: more than 64 bytes an entry.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: Vec<(K, V)>,
    /// The position in `entries`, by the hash of the key.
    positions: HashTable<u32>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            positions: HashTable::new(),
        }
    }
}

impl<K: Hash + Eq, V: Entry> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        let at = self.positions.find(hash, |at| self.entries[*at as usize].0 == *key)?;
        Some(&self.entries[*at as usize].1)
    }

    /// Adds an entry with this hash, or merges it into the one with the same key. Returns whether that changed the table.
    pub(super) fn merge(&mut self, hasher: &RandomState, hash: u64, key: K, value: &V) -> bool {
        let Self { entries, positions } = self;
        let slot = positions.entry(
            hash,
            |at| entries[*at as usize].0 == key,
            |at| hasher.hash_one(&entries[*at as usize].0),
        );
        match slot {
            Slot::Occupied(slot) => entries[*slot.get() as usize].1.merge(value),
            Slot::Vacant(slot) => {
                slot.insert(position(entries.len()));
                if entries.len() == entries.capacity() {
                    // By a quarter, not by half: the list is most of the memory of the index.
                    entries.reserve_exact(entries.len() / 4 + 4);
                }
                entries.push((key, *value));
                true
            }
        }
    }

    /// Removes the entries that are not needed at `now`; returns how many.
    pub(super) fn sweep(&mut self, hasher: &RandomState, now: UnixMillis) -> usize {
        let before = self.entries.len();
        for at in (0..before).rev() {
            if !self.entries[at].1.is_needed(now) {
                self.swap_remove(hasher, at);
            }
        }
        let Self { entries, positions } = self;
        if entries.len() * 4 < entries.capacity() {
            entries.shrink_to_fit();
            positions.shrink_to_fit(|at| hasher.hash_one(&entries[*at as usize].0));
        }
        before - entries.len()
    }

    fn swap_remove(&mut self, hasher: &RandomState, at: usize) {
        let Self { entries, positions } = self;
        let last = entries.len() - 1;
        let hash = hasher.hash_one(&entries[at].0);
        if let Ok(slot) = positions.find_entry(hash, |p| *p == position(at)) {
            slot.remove();
        }
        if at != last {
            let hash = hasher.hash_one(&entries[last].0);
            if let Some(moved) = positions.find_mut(hash, |p| *p == position(last)) {
                *moved = position(at);
            }
        }
        entries.swap_remove(at);
    }

    /// The last `max` entries of those before the position `end`, and the position of the first of them, which is 0 when
    /// there are none before it.
    pub(super) fn part(&self, end: usize, max: usize) -> (&[(K, V)], usize) {
        let end = end.min(self.entries.len());
        let start = end.saturating_sub(max);
        (&self.entries[start..end], start)
    }

    /// The allocated memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(K, V)>() + self.positions.allocation_size()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "2^32 entries of one shard would take 100 GiB"
)]
const fn position(at: usize) -> u32 {
    at as u32
}
