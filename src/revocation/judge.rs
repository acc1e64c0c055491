//! What is looked at every time a token is validated, also one that was verified before. The service and the client
//! library give the same answer because they ask the same function.

use super::index::Index;
use crate::clock::UnixMillis;
use crate::keys::cache::Known;
use crate::model::InactiveReason;

/// Whether a genuine token is good now, for this audience (empty: not checked), with all of these scopes.
pub fn judge(
    known: &Known,
    index: &Index,
    now: UnixMillis,
    audience: &str,
    scopes: &[String],
) -> Result<(), InactiveReason> {
    // The index hears of a revoked key before the ring is loaded again.
    if known
        .revocation_subject
        .key
        .as_ref()
        .is_some_and(|key| index.key_revoked(key))
    {
        return Err(InactiveReason::RevokedKey);
    }
    if now >= known.expires {
        return Err(InactiveReason::Expired);
    }
    if !audience.is_empty() && !known.claims.aud.iter().any(|name| name == audience) {
        return Err(InactiveReason::WrongAudience);
    }
    if !scopes.iter().all(|scope| known.claims.scope.contains(scope)) {
        return Err(InactiveReason::InsufficientScope);
    }
    if index.kills(&known.revocation_subject) {
        Err(InactiveReason::Revoked)
    } else {
        Ok(())
    }
}
