//! What follows a revocation that the store has recorded.

use async_trait::async_trait;

use crate::model::Revocation;

/// Carries a recorded revocation to everything that acts on it: this replica's index, the store of sessions, the other
/// replicas. The record is in force already, so all of it is best effort and none of it fails.
#[async_trait]
pub trait Spread: Send + Sync {
    /// Spreads one; how many live sessions are known to have ended.
    async fn spread(&self, revocation: &Revocation) -> u32;
}
