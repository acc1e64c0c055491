//! The revocation index: everything that could concern an unexpired access token.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::revocation::{Concerns, Standing};
use crate::model::{ClientId, KeyId, Revocation, SessionId, Target, TokenId, UserId};

/// The longest life of any access token, and what one that was being signed while its revocation was recorded may add.
pub(super) const LONGEST_TOKEN: Duration = Duration::from_mins(24 * 60 + 1);

const SHARDS: usize = 64;

/// When no access token that `revocation` concerns can be unexpired any more.
#[must_use]
pub fn retained_until(revocation: &Revocation) -> UnixMillis {
    revocation.expires.min(revocation.revoked.plus(LONGEST_TOKEN))
}

/// What is revoked. Entries are only ever added, until [`Index::sweep`] finds that they concern nothing any more.
///
/// Look-ups take a read lock on one of 64 shards, and none at all at a level where nothing is revoked.
#[derive(Debug)]
pub struct Index {
    tokens: Shards<Row>,
    sessions: Shards<Row>,
    users: Shards<EpochRow>,
    /// Users' rows that keep a session. They never merge.
    kept: RwLock<HashMap<Uuid, Vec<KeptRow>>>,
    kept_len: AtomicUsize,
    clients: RwLock<HashMap<ClientId, EpochRow>>,
    clients_len: AtomicUsize,
    keys: RwLock<HashMap<KeyId, Row>>,
    keys_len: AtomicUsize,
    global: RwLock<Option<EpochRow>>,
    global_epoch: AtomicI64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            tokens: Shards::default(),
            sessions: Shards::default(),
            users: Shards::default(),
            kept: RwLock::default(),
            kept_len: AtomicUsize::new(0),
            clients: RwLock::default(),
            clients_len: AtomicUsize::new(0),
            keys: RwLock::default(),
            keys_len: AtomicUsize::new(0),
            global: RwLock::default(),
            global_epoch: AtomicI64::new(i64::MIN),
        }
    }
}

impl Index {
    /// An index in which nothing is revoked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a revocation; whether it was new.
    pub fn insert(&self, revocation: &Revocation) -> bool {
        let row = Row::of(revocation);
        let epoch = EpochRow {
            epoch: split(revocation.epoch),
            row,
        };
        match &revocation.target {
            Target::Token(id) => self.tokens.put(id.0, row, |_, _| false),
            Target::Session(id) => self.sessions.put(id.0, row, |_, _| false),
            Target::User { id, keep: None } => self.users.put(id.0, epoch, EpochRow::supersedes),
            Target::User { id, keep: Some(keep) } => {
                let mut kept = self.kept.write();
                let rows = kept.entry(id.0).or_default();
                let known = rows.iter().any(|r| r.keep == keep.0 && r.epoch == revocation.epoch);
                if !known {
                    rows.push(KeptRow {
                        epoch: revocation.epoch,
                        keep: keep.0,
                        row,
                    });
                    self.kept_len.fetch_add(1, Ordering::Release);
                }
                !known
            }
            Target::Client(id) => {
                let mut clients = self.clients.write();
                let new = put(&mut clients, id.clone(), epoch, EpochRow::supersedes);
                self.clients_len.store(clients.len(), Ordering::Release);
                new
            }
            Target::Key(id) => {
                let mut keys = self.keys.write();
                let new = put(&mut keys, id.clone(), row, |_, _| false);
                self.keys_len.store(keys.len(), Ordering::Release);
                new
            }
            Target::Global => {
                let mut global = self.global.write();
                let new = global.is_none_or(|old| epoch.supersedes(&old));
                if new {
                    *global = Some(epoch);
                    self.global_epoch.store(revocation.epoch, Ordering::Release);
                }
                new
            }
        }
    }

    /// Whether something revoked kills what stands on `concerns`: the same answer as [`Concerns::dead_by`] over all rows.
    #[must_use]
    pub fn kills(&self, concerns: &Concerns) -> bool {
        concerns.tokens.iter().any(|id| self.tokens.get(id.0).is_some())
            || concerns.sessions.iter().any(|id| self.sessions.get(id.0).is_some())
            || concerns.key.as_ref().is_some_and(|id| self.key_revoked(id))
            || concerns.epochs.iter().any(|standing| self.outlived(standing))
    }

    /// Whether a signing key is revoked.
    #[must_use]
    pub fn key_revoked(&self, id: &KeyId) -> bool {
        self.keys_len.load(Ordering::Acquire) > 0 && self.keys.read().contains_key(id)
    }

    fn outlived(&self, standing: &Standing) -> bool {
        if standing.epochs.global < self.global_epoch.load(Ordering::Acquire) {
            return true;
        }
        if self
            .clients
            .read()
            .get(&standing.client)
            .is_some_and(|row| standing.epochs.client < join(row.epoch))
        {
            return true;
        }
        let Some(user) = standing.user else { return false };
        if self
            .users
            .get(user.0)
            .is_some_and(|row| standing.epochs.user < join(row.epoch))
        {
            return true;
        }
        self.kept_len.load(Ordering::Acquire) > 0
            && self.kept.read().get(&user.0).is_some_and(|rows| {
                rows.iter()
                    .any(|r| standing.epochs.user < r.epoch && standing.session.map(|s| s.0) != Some(r.keep))
            })
    }

    /// Forgets what concerns nothing any more at `now`; how many entries it forgot. A shard at a time.
    pub fn sweep(&self, now: UnixMillis) -> usize {
        let mut forgotten = self.tokens.sweep(now) + self.sessions.sweep(now) + self.users.sweep(now);
        let mut kept = self.kept.write();
        kept.retain(|_, rows| {
            let before = rows.len();
            rows.retain(|r| r.row.alive(now));
            self.kept_len.fetch_sub(before - rows.len(), Ordering::Release);
            forgotten += before - rows.len();
            !rows.is_empty()
        });
        drop(kept);
        let mut clients = self.clients.write();
        forgotten += sweep(&mut clients, now);
        self.clients_len.store(clients.len(), Ordering::Release);
        drop(clients);
        let mut keys = self.keys.write();
        forgotten += sweep(&mut keys, now);
        self.keys_len.store(keys.len(), Ordering::Release);
        drop(keys);
        let mut global = self.global.write();
        if global.is_some_and(|row| !row.alive(now)) {
            *global = None;
            self.global_epoch.store(i64::MIN, Ordering::Release);
            forgotten += 1;
        }
        forgotten
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
            + self.sessions.len()
            + self.users.len()
            + self.kept_len.load(Ordering::Acquire)
            + self.clients_len.load(Ordering::Acquire)
            + self.keys_len.load(Ordering::Acquire)
            + usize::from(self.global.read().is_some())
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds, in chunks of about a shard: the snapshot of a watcher. A user's rows without a kept session are
    /// merged into the one with the largest epoch, which kills the same.
    pub fn chunks(&self) -> impl Iterator<Item = Vec<Revocation>> + '_ {
        let ids = |n: usize| {
            let mut rows = Vec::new();
            self.tokens
                .each(n, |id, row| rows.push(row.revocation(Target::Token(TokenId(id)), 0)));
            self.sessions.each(n, |id, row| {
                rows.push(row.revocation(Target::Session(SessionId(id)), 0));
            });
            self.users.each(n, |id, row| {
                rows.push(row.row.revocation(
                    Target::User {
                        id: UserId(id),
                        keep: None,
                    },
                    join(row.epoch),
                ));
            });
            rows
        };
        let rest = || {
            let mut rows = Vec::new();
            for (id, kept) in self.kept.read().iter() {
                rows.extend(kept.iter().map(|r| {
                    let target = Target::User {
                        id: UserId(*id),
                        keep: Some(SessionId(r.keep)),
                    };
                    r.row.revocation(target, r.epoch)
                }));
            }
            for (id, row) in self.clients.read().iter() {
                rows.push(row.row.revocation(Target::Client(id.clone()), join(row.epoch)));
            }
            for (id, row) in self.keys.read().iter() {
                rows.push(row.revocation(Target::Key(id.clone()), 0));
            }
            rows.extend(
                self.global
                    .read()
                    .iter()
                    .map(|row| row.row.revocation(Target::Global, join(row.epoch))),
            );
            rows
        };
        (0..SHARDS)
            .map(ids)
            .chain(std::iter::once_with(rest))
            .filter(|rows| !rows.is_empty())
    }
}

/// A 64-bit number in two halves, so that rows pack without padding: a million entries must stay small.
type Split = [u32; 2];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the two halves of the number"
)]
const fn split(number: i64) -> Split {
    [(number >> 32) as u32, number as u32]
}

#[expect(clippy::cast_possible_wrap, reason = "the two halves of the number")]
const fn join(halves: Split) -> i64 {
    (((halves[0] as u64) << 32) | halves[1] as u64) as i64
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Minutes since the Unix epoch, rounded up: good for eight thousand years.
    expires: u32,
    revoked: Split,
}

impl Row {
    fn of(revocation: &Revocation) -> Self {
        let minutes = revocation.expires.0.div_euclid(60_000).saturating_add(1);
        Self {
            expires: u32::try_from(minutes).unwrap_or(if minutes < 0 { 0 } else { u32::MAX }),
            revoked: split(revocation.revoked.0),
        }
    }

    fn revocation(&self, target: Target, epoch: i64) -> Revocation {
        Revocation {
            target,
            epoch,
            expires: UnixMillis(i64::from(self.expires) * 60_000),
            revoked: UnixMillis(join(self.revoked)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct EpochRow {
    epoch: Split,
    row: Row,
}

impl EpochRow {
    fn supersedes(&self, old: &Self) -> bool {
        join(self.epoch) > join(old.epoch)
    }
}

#[derive(Clone, Copy, Debug)]
struct KeptRow {
    epoch: i64,
    keep: Uuid,
    row: Row,
}

trait Expires {
    fn row(&self) -> &Row;

    fn alive(&self, now: UnixMillis) -> bool {
        let expires = UnixMillis(i64::from(self.row().expires) * 60_000);
        expires.min(UnixMillis(join(self.row().revoked)).plus(LONGEST_TOKEN)) >= now
    }
}

impl Expires for Row {
    fn row(&self) -> &Row {
        self
    }
}

impl Expires for EpochRow {
    fn row(&self) -> &Row {
        &self.row
    }
}

fn put<K: std::hash::Hash + Eq, V: Copy, S: std::hash::BuildHasher>(
    map: &mut HashMap<K, V, S>,
    key: K,
    value: V,
    supersedes: impl FnOnce(&V, &V) -> bool,
) -> bool {
    match map.entry(key) {
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
        std::collections::hash_map::Entry::Occupied(mut entry) => {
            let new = supersedes(&value, entry.get());
            if new {
                entry.insert(value);
            }
            new
        }
    }
}

fn sweep<K: std::hash::Hash + Eq, V: Expires, S: std::hash::BuildHasher>(
    map: &mut HashMap<K, V, S>,
    now: UnixMillis,
) -> usize {
    let before = map.len();
    map.retain(|_, value| value.alive(now));
    if map.len() * 4 < map.capacity() {
        map.shrink_to_fit();
    }
    before - map.len()
}

/// A map by UUID, cut into shards so that writers and readers seldom meet.
#[derive(Debug)]
struct Shards<V> {
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

    fn get(&self, id: Uuid) -> Option<V> {
        if self.len() == 0 {
            return None;
        }
        self.shard(id).read().get(&id).copied()
    }

    fn put(&self, id: Uuid, value: V, supersedes: impl FnOnce(&V, &V) -> bool) -> bool {
        let mut shard = self.shard(id).write();
        let before = shard.len();
        let new = put(&mut shard, id, value, supersedes);
        self.len.fetch_add(shard.len() - before, Ordering::Release);
        new
    }

    fn sweep(&self, now: UnixMillis) -> usize {
        let forgotten = self.maps.iter().map(|shard| sweep(&mut shard.write(), now)).sum();
        self.len.fetch_sub(forgotten, Ordering::Release);
        forgotten
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn each(&self, n: usize, mut visit: impl FnMut(Uuid, &V)) {
        for (id, value) in self.maps[n].read().iter() {
            visit(*id, value);
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
