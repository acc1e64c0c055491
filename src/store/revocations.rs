//! Revocations: the durable record, its feed, and the announcements that spread a revocation at once.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Level, Result, Revocation, Target};

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

/// The server that a reading of the feed comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseSide {
    /// The identifier that a server shares with its standbys.
    pub system: u64,
    /// The timeline: each promotion begins a later one.
    pub timeline: u32,
    /// No transaction with this number or a larger one had begun.
    pub next_transaction: u64,
}

/// All rows that can concern an unexpired access token.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The rows.
    pub rows: Vec<Revocation>,
    /// The position after these rows.
    pub cursor: Cursor,
    /// Every revocation that was acknowledged before this moment is among the rows.
    pub as_of: UnixMillis,
    /// The server; none if it does not tell its timeline, and for an embedded store.
    pub side: Option<DatabaseSide>,
}

/// The changes after a cursor.
#[derive(Clone, Debug)]
pub enum Changes {
    /// The new rows. A row may be given twice; none is missing.
    Since(Snapshot),
    /// The reader must load everything again.
    Reload(ReloadReason),
}

/// Why a reader must load everything again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadReason {
    /// Another database answers, or an earlier state of it: a standby was promoted, or a backup restored. It may lack rows
    /// that the reader has seen. With the weaker checks of the timeline, also a restart of the server.
    Replaced,
    /// More rows are new than one reading may answer.
    ManyNew,
}

/// How many rows one part of a load reads, which takes a fraction of a second.
pub(super) const PART: i64 = 20_000;

/// The most rows of one [`RevocationStore::write_back`].
pub const LOST_PART: usize = 500;

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

    /// Adds revocations that the store has lost, with their own epochs and expiries, and appends the event if a row is new.
    /// Raises the epochs of their users, their clients and the deployment to at least theirs. A row whose user or client does
    /// not exist is added as well. Returns the levels of the new rows and their numbers.
    ///
    /// A row that the store covers is not added: there is a row of the same token, session or key; or one of the same user,
    /// client or deployment with at least this epoch, and for a user with this kept session or none. So several replicas may
    /// do this at once. At most [`LOST_PART`] rows.
    async fn write_back(&self, lost: &[Revocation], audit: &AuditEvent) -> Result<Vec<(Level, u64)>>;

    /// Opens new connections from now on: those of now may lead to a server that another one has replaced.
    fn reconnect(&self);

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

    /// False while the store answers reads and is known to take no writes.
    fn takes_writes(&self) -> bool;
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

/// How long a replica counts as live after it published its server.
pub const SIDE_TTL: std::time::Duration = std::time::Duration::from_secs(10);

/// The fast path between replicas. It may lose announcements; the durable record is authoritative.
#[async_trait]
pub trait Announcements: Send + Sync {
    /// Announces the revocations to every replica.
    async fn announce(&self, revocations: &[Revocation]) -> Result<()>;

    /// Publishes for `replica` the server that its revocations come from. Returns those of all replicas that published theirs
    /// in the last [`SIDE_TTL`].
    async fn publish_side(&self, replica: &str, side: DatabaseSide) -> Result<Vec<DatabaseSide>>;

    /// Starts to listen. The channel is bounded; a slow listener gets [`AnnouncementEvent::Gap`].
    fn listen(&self) -> mpsc::Receiver<AnnouncementEvent>;
}
