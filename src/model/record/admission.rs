//! Which records of a user give way to a new session.

use super::{RecordState, SessionRecord};
use crate::clock::UnixMillis;
use crate::model::SessionId;
use crate::model::session::{EvictedSession, MAX_EVICTED, NewSession, SessionView, max_records};

/// The records that a new session removes, and the sessions at its client if they are more than the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Records that are of no use any more.
    pub removed: Vec<SessionId>,
    /// Records that are removed because there are too many. Their sessions must be revoked.
    pub evicted: Vec<EvictedSession>,
    /// The other live sessions at the client, oldest first; empty while they and the new one keep to the limit.
    pub over_limit: Vec<SessionView>,
}

/// Decides which records give way to `new`. `records` are records of the user, `total` is their number in the store:
/// `records` may be only some of them, if another version stored too many.
///
/// Records that count as absent always go. If more records are left than [`max_records`] allows, these go as well:
///
/// 1. every record that is expired or of an earlier era: its token is refused with or without it;
/// 2. tombstones, oldest first. They are evidence of a reuse whose revocation may not be durable yet, so the caller revokes
///    their sessions;
/// 3. live sessions of the same client, oldest first. Sessions of other clients stay: they may have a larger limit.
///
/// Of 2 and 3 together at most [`MAX_EVICTED`], because each costs the login a revocation.
#[must_use]
pub fn admit(new: &NewSession, records: &[SessionRecord], total: usize, limit: u32, now: UnixMillis) -> Admission {
    let (absent, kept): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.is_absent(now));
    let (expired, kept): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|record| record.has_expired(now) || record.era < new.era);
    let (mut tombstones, live): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|record| matches!(record.state, RecordState::Tombstone { .. }));
    let mut others: Vec<_> = live
        .into_iter()
        .filter(|record| record.client == new.client && record.era == new.era)
        .collect();
    // Session ids begin with the time at which they were made.
    tombstones.sort_by_key(|record| record.id);
    others.sort_by_key(|record| record.id);

    let mut removed: Vec<SessionId> = absent.iter().map(|record| record.id).collect();
    let after = total.saturating_sub(removed.len()) + 1;
    let mut evicted = Vec::new();
    if let Some(surplus) = after
        .checked_sub(max_records(limit) as usize)
        .filter(|surplus| *surplus > 0)
    {
        removed.extend(expired.iter().map(|record| record.id));
        let surplus = surplus.saturating_sub(expired.len()).min(MAX_EVICTED);
        let of_others = surplus.saturating_sub(tombstones.len()).min(others.len());
        let ended = others.drain(..of_others);
        evicted = tombstones.into_iter().take(surplus).chain(ended).map(evict).collect();
    }
    let mut over_limit = Vec::new();
    if others.len() >= limit as usize {
        over_limit = others.into_iter().map(SessionRecord::view).collect();
        over_limit.sort_by_key(|view| (view.created, view.id));
    }
    Admission {
        removed,
        evicted,
        over_limit,
    }
}

fn evict(record: &SessionRecord) -> EvictedSession {
    EvictedSession {
        id: record.id,
        expires: record.expires,
    }
}
