//! The checks of every use of a token, also of one that was verified before.

use crate::clock::UnixMillis;
use crate::keys::verified::VerifiedToken;
use crate::model::InactiveReason;
use crate::revocation::Index;

/// Checks that a verified token is good at `now`, for this audience (empty: any), with all of these scopes, and not
/// revoked. Of several faults the first in this order is the answer: revoked key, expired, audience, scopes, revoked.
pub fn check(
    token: &VerifiedToken,
    index: &Index,
    now: UnixMillis,
    audience: &str,
    scopes: &[String],
) -> Result<(), InactiveReason> {
    // The index learns of a revoked key before the key ring is loaded again.
    if index.key_revoked(&token.key_id) {
        return Err(InactiveReason::RevokedKey);
    }
    if now >= token.expires {
        return Err(InactiveReason::Expired);
    }
    if !audience.is_empty() && !token.claims.aud.iter().any(|name| name == audience) {
        return Err(InactiveReason::WrongAudience);
    }
    if !scopes.iter().all(|scope| token.claims.scope.contains(scope)) {
        return Err(InactiveReason::InsufficientScope);
    }
    if index.is_revoked(&token.revocation_subject) {
        return Err(InactiveReason::Revoked);
    }
    Ok(())
}
