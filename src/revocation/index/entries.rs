//! The index itself: a map of each kind of target.

use uuid::Uuid;

use super::rows::{Entry as _, EpochRow, KeptRow, Row, join, split};
use super::shards::Shards;
use crate::clock::UnixMillis;
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{ClientId, KeyId, Revocation, Target};
use crate::sync::{AtomicI64, Ordering, RwLock};

/// The revocations in force. Revocations of the same target are one entry, which revokes what each of them revokes and lives
/// as long as the longest of them. Entries only grow, until [`Index::sweep`] removes those that concern no unexpired token.
///
/// A look-up takes a read lock on one of 64 shards, and no lock at a level where nothing is revoked. Adding and looking up
/// take constant time on average.
#[derive(Debug)]
pub struct Index {
    pub(super) tokens: Shards<Uuid, Row>,
    pub(super) sessions: Shards<Uuid, Row>,
    pub(super) users: Shards<Uuid, EpochRow>,
    /// Users' revocations that keep a session: one entry for each user, however many sessions were kept.
    pub(super) kept: Shards<Uuid, KeptRow>,
    pub(super) clients: Shards<ClientId, EpochRow>,
    pub(super) keys: Shards<KeyId, Row>,
    pub(super) global: RwLock<Option<EpochRow>>,
    global_epoch: AtomicI64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            tokens: Shards::default(),
            sessions: Shards::default(),
            users: Shards::default(),
            kept: Shards::default(),
            clients: Shards::default(),
            keys: Shards::default(),
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

    /// Adds a revocation. Returns whether the index changed: `false` if its entries already revoke the same for as long.
    pub fn insert(&self, revocation: &Revocation) -> bool {
        let row = Row::of(revocation);
        let epoch = EpochRow {
            epoch: split(revocation.epoch),
            row,
        };
        match &revocation.target {
            Target::Token(id) => self.tokens.merge(id.0, &row),
            Target::Session(id) => self.sessions.merge(id.0, &row),
            Target::User { id, keep: None } => self.users.merge(id.0, &epoch),
            Target::User { id, keep: Some(keep) } => self.kept.merge(id.0, &KeptRow::new(*keep, revocation.epoch, row)),
            Target::Client(id) => self.clients.merge(id.clone(), &epoch),
            Target::Key(id) => self.keys.merge(id.clone(), &row),
            Target::Global => {
                let mut global = self.global.write();
                let (merged, changed) = match *global {
                    Some(mut old) => {
                        let changed = old.merge(&epoch);
                        (old, changed)
                    }
                    None => (epoch, true),
                };
                *global = Some(merged);
                self.global_epoch.store(join(merged.epoch), Ordering::Release);
                changed
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
            .any(|id| self.tokens.get(&id.0).is_some())
            || revocation_subject
                .sessions
                .iter()
                .any(|id| self.sessions.get(&id.0).is_some())
            || revocation_subject.key.as_ref().is_some_and(|id| self.key_revoked(id))
            || revocation_subject
                .epochs
                .iter()
                .any(|epochs| self.is_epoch_revoked(epochs))
    }

    /// Whether a signing key is revoked.
    #[must_use]
    pub fn key_revoked(&self, id: &KeyId) -> bool {
        self.keys.get(id).is_some()
    }

    fn is_epoch_revoked(&self, epoch_set: &EpochSet) -> bool {
        if epoch_set.epochs.global < self.global_epoch.load(Ordering::Acquire) {
            return true;
        }
        if self
            .clients
            .get(&epoch_set.client)
            .is_some_and(|row| epoch_set.epochs.client < join(row.epoch))
        {
            return true;
        }
        let Some(user) = epoch_set.user else { return false };
        if self
            .users
            .get(&user.0)
            .is_some_and(|row| epoch_set.epochs.user < join(row.epoch))
        {
            return true;
        }
        self.kept
            .get(&user.0)
            .is_some_and(|row| row.revokes(epoch_set.epochs.user, epoch_set.session))
    }

    /// Whether the entries revoke all that `revocation` revokes.
    #[must_use]
    pub fn covers(&self, revocation: &Revocation) -> bool {
        let epoch = revocation.epoch;
        match &revocation.target {
            Target::Token(id) => self.tokens.get(&id.0).is_some(),
            Target::Session(id) => self.sessions.get(&id.0).is_some(),
            Target::User { id, keep } => {
                self.users.get(&id.0).is_some_and(|row| join(row.epoch) >= epoch)
                    || keep.is_some_and(|keep| self.kept.get(&id.0).is_some_and(|row| row.covers(keep, epoch)))
            }
            Target::Client(id) => self.clients.get(id).is_some_and(|row| join(row.epoch) >= epoch),
            Target::Key(id) => self.key_revoked(id),
            Target::Global => self.global_epoch.load(Ordering::Acquire) >= epoch,
        }
    }

    /// The revocations that the entry of this target stands for.
    #[must_use]
    pub fn entry_of(&self, target: &Target) -> Vec<Revocation> {
        let of_epoch = |row: EpochRow| row.row.revocation(target.clone(), join(row.epoch));
        match target {
            Target::Token(id) => self.tokens.get(&id.0).map(|row| row.revocation(target.clone(), 0)),
            Target::Session(id) => self.sessions.get(&id.0).map(|row| row.revocation(target.clone(), 0)),
            Target::User { id, keep: None } => self.users.get(&id.0).map(of_epoch),
            Target::User { id, keep: Some(_) } => {
                let kept = self.kept.get(&id.0);
                return kept.iter().flat_map(|row| row.revocations(*id)).collect();
            }
            Target::Client(id) => self.clients.get(id).map(of_epoch),
            Target::Key(id) => self.keys.get(id).map(|row| row.revocation(target.clone(), 0)),
            Target::Global => self.global.read().map(of_epoch),
        }
        .into_iter()
        .collect()
    }

    /// Removes the entries that concern no token that is unexpired at `now`, one shard at a time; returns how many.
    pub fn sweep(&self, now: UnixMillis) -> usize {
        let mut removed = self.tokens.sweep(now)
            + self.sessions.sweep(now)
            + self.users.sweep(now)
            + self.kept.sweep(now)
            + self.clients.sweep(now)
            + self.keys.sweep(now);
        let mut global = self.global.write();
        if global.is_some_and(|row| !row.is_needed(now)) {
            *global = None;
            self.global_epoch.store(i64::MIN, Ordering::Release);
            removed += 1;
        }
        removed
    }

    /// The number of entries. The revocations of a user that keep sessions count as one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
            + self.sessions.len()
            + self.users.len()
            + self.kept.len()
            + self.clients.len()
            + self.keys.len()
            + usize::from(self.global.read().is_some())
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
