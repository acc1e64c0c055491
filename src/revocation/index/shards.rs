//! A map that many cores read while one writes.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use uuid::Uuid;

use super::rows::{Expires, put, sweep};
use crate::clock::UnixMillis;

/// How many shards a map is cut into.
pub(super) const SHARDS: usize = 64;

/// A map by UUID, cut into shards so that writers and readers seldom meet.
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
        #[expect(clippy::cast_possible_truncation, reason = "any six bits will do")]
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
        let forgotten = self.maps.iter().map(|shard| sweep(&mut shard.write(), now)).sum();
        self.len.fetch_sub(forgotten, Ordering::Release);
        forgotten
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
