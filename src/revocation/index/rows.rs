//! The packed form of the entries: a million of them must stay small.

use std::collections::HashMap;

use uuid::Uuid;

use super::LONGEST_TOKEN;
use crate::clock::UnixMillis;
use crate::model::{Revocation, Target};

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

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Minutes since the Unix epoch, rounded up: good for eight thousand years.
    pub(super) expires: u32,
    pub(super) revoked: Split,
}

impl Row {
    pub(super) fn of(revocation: &Revocation) -> Self {
        let minutes = revocation.expires.0.div_euclid(60_000).saturating_add(1);
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

#[derive(Clone, Copy, Debug)]
pub(super) struct EpochRow {
    pub(super) epoch: Split,
    pub(super) row: Row,
}

impl EpochRow {
    pub(super) fn supersedes(&self, old: &Self) -> bool {
        join(self.epoch) > join(old.epoch)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct KeptRow {
    pub(super) epoch: i64,
    pub(super) keep: Uuid,
    pub(super) row: Row,
}

pub(super) trait Expires {
    fn row(&self) -> &Row;

    fn is_needed(&self, now: UnixMillis) -> bool {
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

pub(super) fn put<K: std::hash::Hash + Eq, V: Copy, S: std::hash::BuildHasher>(
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

pub(super) fn sweep<K: std::hash::Hash + Eq, V: Expires, S: std::hash::BuildHasher>(
    map: &mut HashMap<K, V, S>,
    now: UnixMillis,
) -> usize {
    let before = map.len();
    map.retain(|_, value| value.is_needed(now));
    if map.len() * 4 < map.capacity() {
        map.shrink_to_fit();
    }
    before - map.len()
}
