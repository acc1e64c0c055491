//! A map that many threads read while one writes.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use uuid::Uuid;

use super::rows::{Expires, put, sweep};
use crate::clock::UnixMillis;

/// The number of shards of a map.
pub(super) const SHARDS: usize = 64;

/// A map by UUID, in shards so that readers seldom wait for a writer.
#[derive(Debug)]
pub(super) struct Shards<V> {
    maps: Box<[RwLock<HashMap<Uuid, V>>]>,
    hasher: std::hash::RandomState,
    len: AtomicUsize,
}

impl<V> Default for Shards<V> {
    fn default() -> Self {
        Self {
            maps: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: std::hash::RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }
}

impl<V: Copy + Expires> Shards<V> {
    fn shard(&self, id: Uuid) -> &RwLock<HashMap<Uuid, V>> {
        #[expect(clippy::cast_possible_truncation, reason = "any six bits are good enough")]
        let n = self.hasher.hash_one(id) as usize % SHARDS;
        &self.maps[n]
    }

    pub(super) fn get(&self, id: Uuid) -> Option<V> {
        if self.len() == 0 {
            return None;
        }
        self.shard(id).read().get(&id).copied()
    }

    pub(super) fn put(&self, id: Uuid, value: V, supersedes: impl FnOnce(&V, &V) -> bool) -> bool {
        let mut shard = self.shard(id).write();
        let before = shard.len();
        let new = put(&mut shard, id, value, supersedes);
        self.len.fetch_add(shard.len() - before, Ordering::Release);
        new
    }

    pub(super) fn sweep(&self, now: UnixMillis) -> usize {
        let removed = self.maps.iter().map(|shard| sweep(&mut shard.write(), now)).sum();
        self.len.fetch_sub(removed, Ordering::Release);
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn each(&self, n: usize, mut visit: impl FnMut(Uuid, &V)) {
        for (id, value) in self.maps[n].read().iter() {
            visit(*id, value);
        }
    }
}
