//! The packed form of the entries, and how the revocations of one target merge.

use uuid::Uuid;

use super::LONGEST_TOKEN;
use crate::clock::UnixMillis;
use crate::model::{Revocation, SessionId, Target, UserId};

/// A 64-bit number in two halves: with an alignment of 4 bytes, rows pack without padding.
pub(super) type Split = [u32; 2];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the two halves of the number"
)]
pub(super) const fn split(number: i64) -> Split {
    [(number >> 32) as u32, number as u32]
}

#[expect(clippy::cast_possible_wrap, reason = "the two halves of the number")]
pub(super) const fn join(halves: Split) -> i64 {
    (((halves[0] as u64) << 32) | halves[1] as u64) as i64
}

/// An entry of the index: the merged revocations of one target.
pub(super) trait Entry: Copy {
    /// The largest number of revocations that one entry stands for in a snapshot.
    const MAX_REVOCATIONS: usize = 1;

    fn row(&self) -> &Row;

    /// Merges another entry of the same target. The result revokes whatever either of the two revokes, for at least as long.
    /// Returns whether the entry changed: merging one that it covers changes nothing.
    fn merge(&mut self, other: &Self) -> bool;

    fn is_needed(&self, now: UnixMillis) -> bool {
        let expires = UnixMillis(i64::from(self.row().expires) * 60_000);
        expires.min(UnixMillis(join(self.row().revoked)).plus(LONGEST_TOKEN)) >= now
    }
}

/// When an entry is forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Minutes since the Unix epoch, rounded up: good for eight thousand years.
    pub(super) expires: u32,
    pub(super) revoked: Split,
}

impl Row {
    pub(super) fn of(revocation: &Revocation) -> Self {
        let minutes = revocation.expires.0.saturating_add(59_999).div_euclid(60_000);
        Self {
            expires: u32::try_from(minutes).unwrap_or(if minutes < 0 { 0 } else { u32::MAX }),
            revoked: split(revocation.revoked.0),
        }
    }

    pub(super) fn revocation(&self, target: Target, epoch: i64) -> Revocation {
        Revocation {
            target,
            epoch,
            expires: UnixMillis(i64::from(self.expires) * 60_000),
            revoked: UnixMillis(join(self.revoked)),
        }
    }
}

impl Entry for Row {
    fn row(&self) -> &Row {
        self
    }

    fn merge(&mut self, other: &Self) -> bool {
        let extends = other.expires > self.expires || join(other.revoked) > join(self.revoked);
        if extends {
            self.expires = self.expires.max(other.expires);
            self.revoked = split(join(self.revoked).max(join(other.revoked)));
        }
        extends
    }
}

/// The revocations of a user (without a kept session), of a client or of the deployment. The largest epoch revokes what the
/// smaller ones revoke.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpochRow {
    pub(super) epoch: Split,
    pub(super) row: Row,
}

impl Entry for EpochRow {
    fn row(&self) -> &Row {
        &self.row
    }

    fn merge(&mut self, other: &Self) -> bool {
        let supersedes = join(other.epoch) > join(self.epoch);
        if supersedes {
            self.epoch = other.epoch;
        }
        self.row.merge(&other.row) || supersedes
    }
}

/// A revocation of a user that keeps a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptSession {
    pub(super) keep: Uuid,
    pub(super) epoch: Split,
}

/// All revocations of one user that keep a session. Two of them revoke what all of them revoke: the one with the largest
/// epoch, and the one with the largest epoch among those that keep another session. A token of the session that the first
/// one keeps is revoked by some row only if the second one revokes it; every other token only if the first one does.
///
/// Both stay until every revocation that they stand for has expired. Meanwhile they revoke only what was revoked.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptRow {
    newest: KeptSession,
    /// Keeps another session than `newest`; its epoch is not larger.
    other: Option<KeptSession>,
    row: Row,
}

impl KeptRow {
    pub(super) fn new(keep: SessionId, epoch: i64, row: Row) -> Self {
        let newest = KeptSession {
            keep: keep.0,
            epoch: split(epoch),
        };
        Self {
            newest,
            other: None,
            row,
        }
    }

    /// Whether the user's tokens with this epoch are revoked in this session, or outside of any session.
    pub(super) fn revokes(&self, epoch: i64, session: Option<SessionId>) -> bool {
        if session.map(|id| id.0) == Some(self.newest.keep) {
            self.other.is_some_and(|other| epoch < join(other.epoch))
        } else {
            epoch < join(self.newest.epoch)
        }
    }

    /// Whether the entry revokes all that a revocation with this epoch revokes which keeps `keep`.
    pub(super) fn covers(&self, keep: SessionId, epoch: i64) -> bool {
        let is_as_large = |kept: KeptSession| join(kept.epoch) >= epoch;
        // Of two revocations with as large an epoch that keep different sessions, one revokes each session.
        let (newest, other) = (is_as_large(self.newest), self.other.is_some_and(is_as_large));
        newest && (other || self.newest.keep == keep.0)
    }

    fn add(&mut self, added: KeptSession) -> bool {
        let epoch = join(added.epoch);
        if epoch > join(self.newest.epoch) {
            if added.keep != self.newest.keep {
                self.other = Some(self.newest);
            }
            self.newest = added;
            return true;
        }
        let is_second = added.keep != self.newest.keep && self.other.is_none_or(|other| epoch > join(other.epoch));
        if is_second {
            self.other = Some(added);
        }
        is_second
    }

    pub(super) fn revocations(&self, user: UserId) -> impl Iterator<Item = Revocation> {
        let row = self.row;
        [Some(self.newest), self.other].into_iter().flatten().map(move |kept| {
            let target = Target::User {
                id: user,
                keep: Some(SessionId(kept.keep)),
            };
            row.revocation(target, join(kept.epoch))
        })
    }
}

impl Entry for KeptRow {
    const MAX_REVOCATIONS: usize = 2;

    fn row(&self) -> &Row {
        &self.row
    }

    fn merge(&mut self, other: &Self) -> bool {
        let mut changed = self.row.merge(&other.row);
        for kept in [Some(other.newest), other.other].into_iter().flatten() {
            changed |= self.add(kept);
        }
        changed
    }
}
