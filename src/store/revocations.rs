//! Revocations: the durable record, its feed, and the announcements that spread a revocation at once.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Result, Revocation, Target};

/// The time until which a revocation is kept: when nothing that it concerns is valid any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The absolute expiry of the revoked token or session, which the caller knows.
    At(UnixMillis),
    /// For a target whose expiry the caller does not know. The store computes now + the longest session life that was
    /// ever in force + 1 h.
    LongestSession,
}

/// A revocation to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevocation {
    /// The revoked token, session, user, client or key, or everything.
    pub target: Target,
    /// The time until which the row is kept.
    pub expires: Expiry,
}

/// The result of `revoke`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The row in force; none if the user or client does not exist.
    pub revocation: Option<Revocation>,
    /// Whether this call wrote the row and its audit event. A token, session or key is revoked once.
    pub new: bool,
}

/// A position in the feed: the rows that a reader has seen. Opaque. It belongs to one store and works on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// All rows that can concern an unexpired access token.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The rows.
    pub rows: Vec<Revocation>,
    /// The position after these rows.
    pub cursor: Cursor,
    /// Every revocation that was acknowledged before this moment is among the rows.
    pub as_of: UnixMillis,
}

/// The changes after a cursor.
#[derive(Clone, Debug)]
pub enum Changes {
    /// The new rows. A row may be given twice; none is missing.
    Since(Snapshot),
    /// The reader must load everything again: the store was restored or promoted on another timeline, or more rows are
    /// new than one reading may answer.
    Reload,
}

/// How many rows one part of a load reads, which takes a fraction of a second.
pub(super) const PART: i64 = 20_000;

/// The durable record of revocations.
///
/// * Each revocation is one INSERT. The epoch of its level is raised in the same transaction to max(previous + 1, Unix
///   milliseconds).
/// * A token, session or key is revoked once: a second revocation writes nothing, neither a row nor an audit event. The first
///   row is kept until nothing that it concerns is valid any more, whatever the later ones would say.
/// * Rows of the same user are never merged, because each may keep another session.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// Records a revocation, with its audit event if the revocation is new. Once this returns, the caller may be told
    /// that the revocation is acknowledged.
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded>;

    /// Whether each of the subjects is revoked, in one round trip.
    async fn revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>>;

    /// Whether the subject is revoked (`CONSISTENCY_STRONG`).
    async fn is_revoked(&self, subject: &RevocationSubject) -> Result<bool> {
        Ok(self.revoked(std::slice::from_ref(subject)).await?.contains(&true))
    }

    /// Every row that was recorded after `since` and has not expired by the store's clock. The rows are read in parts,
    /// each within the store's timeout, so that a load of any size succeeds. The cursor and `as_of` are of the first
    /// part.
    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot>;

    /// Every row after `cursor`. `RESUME_TOKEN_INVALID` if it is not a cursor.
    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes>;

    /// Removes at most `limit` rows that have expired by the store's clock and returns how many.
    async fn purge_revocations(&self, limit: u32) -> Result<u32>;

    /// The era of the store of sessions, and the last stored values of its counters.
    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)>;

    /// Stores counters, whose values only grow. With `lost`, which says that the store of sessions came back from an
    /// old backup, it also raises the era if the era is still `seen`. Returns the era now.
    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64>;

    /// Raises the high-water mark of session lives.
    async fn note_session_life(&self, life: std::time::Duration) -> Result<()>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;
}

/// A message to a listener of the announcements.
#[derive(Clone, Debug)]
pub enum AnnouncementEvent {
    /// These revocations were announced. There may be others that were not.
    Revocations(Vec<Revocation>),
    /// An announcement may have been missed (after a reconnection, a trimmed stream or a restore): the listener must
    /// read the feed now.
    Gap,
}

/// The fast path between replicas. It may lose announcements; the durable record is authoritative.
#[async_trait]
pub trait Announcements: Send + Sync {
    /// Announces the revocations to every replica.
    async fn announce(&self, revocations: &[Revocation]) -> Result<()>;

    /// Starts to listen. The channel is bounded; a slow listener gets [`AnnouncementEvent::Gap`].
    fn listen(&self) -> mpsc::Receiver<AnnouncementEvent>;
}
