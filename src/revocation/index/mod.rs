//! The revocation index: all revocations that can concern an unexpired access token.

mod rows;
mod shards;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use uuid::Uuid;

use self::rows::{EpochRow, Expires as _, KeptRow, Row, join, put, split, sweep};
use self::shards::{SHARDS, Shards};
use crate::clock::UnixMillis;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{ClientId, KeyId, Revocation, SessionId, Target, TokenId, UserId};

/// The longest life of an access token, plus the time that one may take that was being signed while its revocation was
/// recorded.
pub(super) const LONGEST_TOKEN: Duration = MAX_ACCESS_TOKEN_TTL.saturating_add(Duration::from_mins(1));

/// The number of parts of [`Index::chunk`].
pub const CHUNKS: usize = SHARDS + 1;

/// When every access token that `revocation` concerns has expired.
#[must_use]
pub fn retained_until(revocation: &Revocation) -> UnixMillis {
    revocation.expires.min(revocation.revoked.plus(LONGEST_TOKEN))
}

/// The revocations in force. Entries are only added, until [`Index::sweep`] removes those that concern no unexpired token.
///
/// A look-up takes a read lock on one of 64 shards, and no lock at a level where nothing is revoked.
#[derive(Debug)]
pub struct Index {
    tokens: Shards<Row>,
    sessions: Shards<Row>,
    users: Shards<EpochRow>,
    /// Users' revocations that keep a session. They are never merged.
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

    /// Adds a revocation; returns whether it was new.
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

    /// Whether a revocation concerns `revocation_subject`. Returns the same as [`RevocationSubject::is_revoked_by`] over all
    /// revocations.
    #[must_use]
    pub fn is_revoked(&self, revocation_subject: &RevocationSubject) -> bool {
        revocation_subject
            .tokens
            .iter()
            .any(|id| self.tokens.get(id.0).is_some())
            || revocation_subject
                .sessions
                .iter()
                .any(|id| self.sessions.get(id.0).is_some())
            || revocation_subject.key.as_ref().is_some_and(|id| self.key_revoked(id))
            || revocation_subject
                .epochs
                .iter()
                .any(|epochs| self.is_epoch_revoked(epochs))
    }

    /// Whether a signing key is revoked.
    #[must_use]
    pub fn key_revoked(&self, id: &KeyId) -> bool {
        self.keys_len.load(Ordering::Acquire) > 0 && self.keys.read().contains_key(id)
    }

    fn is_epoch_revoked(&self, epoch_set: &EpochSet) -> bool {
        if epoch_set.epochs.global < self.global_epoch.load(Ordering::Acquire) {
            return true;
        }
        if self
            .clients
            .read()
            .get(&epoch_set.client)
            .is_some_and(|row| epoch_set.epochs.client < join(row.epoch))
        {
            return true;
        }
        let Some(user) = epoch_set.user else { return false };
        if self
            .users
            .get(user.0)
            .is_some_and(|row| epoch_set.epochs.user < join(row.epoch))
        {
            return true;
        }
        self.kept_len.load(Ordering::Acquire) > 0
            && self.kept.read().get(&user.0).is_some_and(|rows| {
                rows.iter()
                    .any(|r| epoch_set.epochs.user < r.epoch && epoch_set.session.map(|s| s.0) != Some(r.keep))
            })
    }

    /// Removes the entries that concern no token that is unexpired at `now`, one shard at a time; returns how many.
    pub fn sweep(&self, now: UnixMillis) -> usize {
        let mut removed = self.tokens.sweep(now) + self.sessions.sweep(now) + self.users.sweep(now);
        let mut kept = self.kept.write();
        kept.retain(|_, rows| {
            let before = rows.len();
            rows.retain(|r| r.row.is_needed(now));
            self.kept_len.fetch_sub(before - rows.len(), Ordering::Release);
            removed += before - rows.len();
            !rows.is_empty()
        });
        drop(kept);
        let mut clients = self.clients.write();
        removed += sweep(&mut clients, now);
        self.clients_len.store(clients.len(), Ordering::Release);
        drop(clients);
        let mut keys = self.keys.write();
        removed += sweep(&mut keys, now);
        self.keys_len.store(keys.len(), Ordering::Release);
        drop(keys);
        let mut global = self.global.write();
        if global.is_some_and(|row| !row.is_needed(now)) {
            *global = None;
            self.global_epoch.store(i64::MIN, Ordering::Release);
            removed += 1;
        }
        removed
    }

    /// The number of entries.
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

    /// One part of the entries: parts 0 to [`CHUNKS`] − 1, some of them empty. A user's revocations without a kept session
    /// are merged into the one with the largest epoch, which revokes the same tokens.
    #[must_use]
    pub fn chunk(&self, n: usize) -> Vec<Revocation> {
        let mut rows = Vec::new();
        if n < SHARDS {
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
            return rows;
        }
        for (id, kept) in self.kept.read().iter() {
            rows.extend(kept.iter().map(|r| {
                r.row.revocation(
                    Target::User {
                        id: UserId(*id),
                        keep: Some(SessionId(r.keep)),
                    },
                    r.epoch,
                )
            }));
        }
        for (id, row) in self.clients.read().iter() {
            rows.push(row.row.revocation(Target::Client(id.clone()), join(row.epoch)));
        }
        rows.extend(
            self.keys
                .read()
                .iter()
                .map(|(id, row)| row.revocation(Target::Key(id.clone()), 0)),
        );
        rows.extend(
            self.global
                .read()
                .iter()
                .map(|row| row.row.revocation(Target::Global, join(row.epoch))),
        );
        rows
    }
}

#[cfg(test)]
mod tests;
