//! Live sessions: which generation of the refresh token is current.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::session::{Created, NewSession, Presented, SessionView};
use crate::model::{Result, Rotation, SessionId, UserId};

/// Live sessions. Time is the store's own (`TIME` on Redis), never a caller's clock.
///
/// * Verbs on one session MUST be linearisable, whatever the number of replicas.
/// * No verb may be repeated blindly: a script whose reply was lost counts as run.
/// * Arguments hold SHA-256 of the session secret, never a token: the store's own logs keep arguments.
/// * A full store answers `STORE_FULL` to `create` and `rotate`; `end` and `end_user` MUST still work.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Stores a session at generation 0. `limit` is the most live sessions of the user at the client.
    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created>;

    /// Decides what a presented refresh token means and moves the record, in one transition.
    async fn rotate(&self, presented: &Presented) -> Result<Rotation>;

    /// Ends one session; whether a live one was known.
    async fn end(&self, user: UserId, session: SessionId) -> Result<bool>;

    /// Ends the user's sessions whose user epoch is smaller than `epoch`, except `keep`; how many live ones there were.
    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32>;

    /// The user's live sessions of this era, oldest first. What revocations kill is left out by the caller.
    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>>;

    /// Removes at most `limit` records that count as absent; how many it removed. A store whose records go by
    /// themselves has nothing to do.
    async fn purge_sessions(&self, _limit: u32) -> Result<u32> {
        Ok(0)
    }

    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;

    /// Changes whenever the store has been connected to again: it may have come back from a backup meanwhile. None where
    /// there is no connection.
    fn reconnections(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Advances the counter of every master and answers (name, value) of each; a store that cannot come back from a
    /// backup on its own answers an empty list. `known` are the values stored so far: a missing counter is set from
    /// them, then advanced.
    ///
    /// A counter's name says where it lives: in a Redis Cluster it is the hash tag of its key, so the counter moves
    /// with its slot. Each master is represented by the first known name that it holds, or by a new one; names that
    /// are not answered stay as they were stored.
    async fn advance_counters(&self, known: &[(String, i64)]) -> Result<Vec<(String, i64)>>;

    /// Raises counters to at least these values: what came back from a backup has been dealt with.
    async fn raise_counters(&self, values: &[(String, i64)]) -> Result<()>;
}
