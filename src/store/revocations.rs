//! Revocations: the durable record, the feed of it, and the announcements that make it fast.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Result, Revocation, Target};

/// When what is revoked cannot be alive any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The absolute expiry of what is in hand.
    At(UnixMillis),
    /// Not in hand: now + the longest session life ever in force + 1 h, reckoned by the store.
    LongestSession,
}

/// A revocation to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevocation {
    /// What.
    pub target: Target,
    /// Until when the row is kept.
    pub expires: Expiry,
}

/// What `revoke` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The row that is in force; none if the user or client does not exist (nothing to revoke).
    pub revocation: Option<Revocation>,
    /// Whether this call wrote it (and its audit event). A token, session or key is revoked once.
    pub new: bool,
}

/// A place in the feed: what has been seen. Opaque; of one store, good on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// All rows that could concern an unexpired access token.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The rows.
    pub rows: Vec<Revocation>,
    /// What has been seen.
    pub cursor: Cursor,
    /// Every revocation that was acknowledged before this moment is among the rows.
    pub as_of: UnixMillis,
}

/// What is new since a cursor.
#[derive(Clone, Debug)]
pub enum Changes {
    /// These rows; a row may be given twice, none is left out.
    Since(Snapshot),
    /// The store is not the one that the cursor is of (restored, promoted on another timeline), or more is new than one
    /// look may tell: load again.
    Reload,
}

/// How many rows one part of a load reads: a fraction of a second's work.
pub(super) const PART: i64 = 20_000;

/// The durable record of revocations.
///
/// * Each is one INSERT; the epoch of its level is raised in the same transaction: max(previous + 1, Unix milliseconds).
/// * Users' rows never merge: each keeps its own session.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// Records a revocation, with its audit event if it is new. This is the acknowledgement.
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded>;

    /// Which of these a recorded revocation kills, in one round trip.
    async fn revoked(&self, revocation_subject: &[RevocationSubject]) -> Result<Vec<bool>>;

    /// Whether a recorded revocation kills this (`CONSISTENCY_STRONG`).
    async fn is_revoked(&self, revocation_subject: &RevocationSubject) -> Result<bool> {
        Ok(self
            .revoked(std::slice::from_ref(revocation_subject))
            .await?
            .contains(&true))
    }

    /// Every row that was recorded after `since` and has not expired at the store's clock. Read in parts, each within the
    /// store's timeout, so that it comes to its end however many there are; all of them are of the moment of the first.
    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot>;

    /// Every row that `cursor` has not seen. `RESUME_TOKEN_INVALID` if it is not a cursor.
    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes>;

    /// Removes at most `limit` rows that expired before the store's clock; how many it removed.
    async fn purge_revocations(&self, limit: u32) -> Result<u32>;

    /// The era of the store of sessions, and what its counters were last.
    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)>;

    /// Stores counters that only grow; with `lost`, raises the era as well (the store of sessions came back from an
    /// old backup) unless it is no longer `seen`. Answers the era now.
    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64>;

    /// Raises the high-water mark of session lives.
    async fn note_session_life(&self, life: std::time::Duration) -> Result<()>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;
}

/// What a follower of the announcements hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// These were announced. They only add: they say nothing of what was not announced.
    Revocations(Vec<Revocation>),
    /// Something may have been missed (reconnected, trimmed, restored): reconcile now.
    Gap,
}

/// The fast road between replicas. Best effort: the durable record is the truth.
#[async_trait]
pub trait Announcements: Send + Sync {
    /// Tells every replica.
    async fn announce(&self, revocations: &[Revocation]) -> Result<()>;

    /// Starts to listen. The channel is bounded; a listener that lags gets [`Heard::Gap`].
    fn listen(&self) -> mpsc::Receiver<Heard>;
}
