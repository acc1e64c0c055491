//! Live sessions, with the current generation of their refresh tokens.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::UnixMillis;
use crate::model::session::{Created, NewSession, Presented, SessionView};
use crate::model::{Result, Rotation, SessionId, UserId};

/// The most records of revoked sessions that one call removes.
const MAX_DROPPED: usize = 1000;

/// The time that one step of a counter stands for ([`SessionStore::advance_counters`]).
pub const COUNTER_STEP: Duration = Duration::from_mins(1);

/// A counter that tells how old the data of one master are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupCounter {
    /// Its name, by which its stored value is found.
    pub name: String,
    /// Its value now.
    pub value: i64,
    /// How many steps it was behind the stored value.
    pub behind: i64,
}

/// The counters of the masters that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedCounters {
    /// At least one, unless the store has none.
    pub counters: Vec<BackupCounter>,
    /// Whether every master answered.
    pub is_complete: bool,
}

/// The store of live sessions. The time is the store's own (`TIME` on Redis), never the clock of a replica.
///
/// * Operations on one session MUST be linearisable, for any number of replicas.
/// * No operation may be sent twice: a script whose reply was lost counts as run.
/// * Arguments contain SHA-256 of the session secret, never a token, because the store may log arguments.
/// * The number of a user's records is bounded ([`max_records`](crate::model::session::max_records)), and so is the work of
///   each operation, also on more records than that, which an earlier version may have stored.
/// * A full store returns `STORE_FULL` to `create` and `rotate`; `end` and `end_user` MUST still work.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Stores a session at generation 0. `limit` is the largest number of live sessions of the user at the client. Removes
    /// the user's records that [`admit`](crate::model::record::admit) names; the caller revokes the evicted ones.
    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created>;

    /// Decides the result for a presented refresh token and changes the record, in one transition.
    async fn rotate(&self, presented: &Presented) -> Result<Rotation>;

    /// The time `left` from now by the store's clock, or later, for `Presented::not_after` of this user; none if the store does not
    /// know its clock, or if a call cannot be overtaken by another one.
    fn time_in(&self, _user: UserId, _left: Duration) -> Option<UnixMillis> {
        None
    }

    /// Ends one session and returns whether it was live.
    async fn end(&self, user: UserId, session: SessionId) -> Result<bool> {
        Ok(self.end_all(user, &[session]).await? == 1)
    }

    /// Ends these sessions and returns how many were live. A tombstone stays until it expires, because its revocation may
    /// not be durable yet.
    async fn end_all(&self, user: UserId, sessions: &[SessionId]) -> Result<u32>;

    /// Removes the records of sessions that are revoked, at most 1,000 of them. Best effort: the revocations are in force
    /// with or without the records.
    async fn drop_revoked(&self, user: UserId, revoked: &[SessionId]) {
        if revoked.is_empty() {
            return;
        }
        if let Err(error) = self.end_all(user, &revoked[..revoked.len().min(MAX_DROPPED)]).await {
            tracing::debug!(%error, %user, "cannot remove the records of revoked sessions; they stay until they expire");
        }
    }

    /// Ends the user's sessions whose user epoch is smaller than `epoch`, except `keep`, and returns how many were
    /// live.
    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32>;

    /// The user's live sessions of this era, oldest first. The caller removes revoked ones.
    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>>;

    /// Removes at most `limit` records that count as absent and returns how many. A store that expires its records
    /// itself has nothing to do.
    async fn purge_sessions(&self, _limit: u32) -> Result<u32> {
        Ok(0)
    }

    /// Checks that the store answers.
    async fn ping(&self) -> Result<()>;

    /// Changes after each reconnection, because the store may have come back from a backup meanwhile. None for a store
    /// without a connection.
    fn reconnections(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Advances the counter of every master by at most one step for each [`COUNTER_STEP`] of the store's time, however many
    /// replicas ask and however often. `known` are the stored values: a missing counter is set from them, and one that is
    /// behind by less than `backup_steps` is raised to them. A store that cannot come back from a backup on its own returns
    /// no counters.
    ///
    /// In a Redis Cluster the name of a counter is the hash tag of its key, so the counter moves with its slot. The
    /// first known name that a master holds represents it, or else a new one. Names that are not answered keep their
    /// stored values.
    async fn advance_counters(&self, known: &[(String, i64)], backup_steps: i64) -> Result<ComparedCounters>;

    /// Raises each counter by the steps that it was behind, once a return from a backup has been handled. A counter that is now
    /// below its value here is left alone, because it came back from yet another backup.
    async fn raise_counters(&self, behind: &[BackupCounter]) -> Result<()>;
}
