//! A map that many threads read while one writes.

use std::hash::{BuildHasher as _, Hash};

use super::rows::Entry;
use super::table::Table;
use crate::clock::UnixMillis;
use crate::sync::{AtomicUsize, Ordering, RandomState, RwLock};

/// The number of shards of a map.
pub(super) const SHARDS: usize = 64;

/// A map in shards, so that readers seldom wait for a writer.
#[derive(Debug)]
pub(super) struct Shards<K, V> {
    tables: Box<[RwLock<Table<K, V>>]>,
    hasher: RandomState,
    len: AtomicUsize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self {
            tables: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }
}

impl<K: Hash + Eq, V: Entry> Shards<K, V> {
    /// The shard of a hash. A table places its entries by the lowest bits and the highest seven, so the shard is chosen by
    /// others: else the entries of a shard would collide.
    fn shard(&self, hash: u64) -> &RwLock<Table<K, V>> {
        let n = (hash >> 50) as usize % SHARDS;
        &self.tables[n]
    }

    /// The entry of a key. Takes no lock while the map is empty.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        if self.len() == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().get(hash, key).copied()
    }

    /// Adds an entry, or merges it into the one with the same key. Returns whether that changed the map.
    pub(super) fn merge(&self, key: K, value: &V) -> bool {
        let hash = self.hasher.hash_one(&key);
        let mut table = self.shard(hash).write();
        let before = table.len();
        let changed = table.merge(&self.hasher, hash, key, value);
        self.len.fetch_add(table.len() - before, Ordering::Release);
        changed
    }

    pub(super) fn sweep(&self, now: UnixMillis) -> usize {
        let sweep = |table: &RwLock<Table<K, V>>| table.write().sweep(&self.hasher, now);
        let removed = self.tables.iter().map(sweep).sum();
        self.len.fetch_sub(removed, Ordering::Release);
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Visits the next entries, at most as many as have at most `room` revocations, and moves the place behind them. Returns
    /// whether the end is reached. Locks one shard at a time.
    pub(super) fn visit(&self, place: &mut Place, mut room: usize, mut visit: impl FnMut(&K, &V)) -> bool {
        while let Some(table) = self.tables.get(place.shard) {
            let table = table.read();
            let (entries, start) = table.part(place.end, room / V::MAX_REVOCATIONS);
            for (key, value) in entries {
                visit(key, value);
            }
            room -= entries.len() * V::MAX_REVOCATIONS;
            if start > 0 {
                place.end = start;
                return false;
            }
            *place = Place::start_of(place.shard + 1);
        }
        true
    }
}

/// How far a map was read.
#[derive(Debug)]
pub(super) struct Place {
    shard: usize,
    /// The position in the shard's table before which nothing was read.
    end: usize,
}

impl Place {
    pub(super) const fn start_of(shard: usize) -> Self {
        Self { shard, end: usize::MAX }
    }
}
