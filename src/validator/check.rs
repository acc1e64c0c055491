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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::model::{Claims, KeyId, Revocation, Target};

    #[test]
    fn audience_is_checked_before_scopes_and_revocation_last() {
        let now = UnixMillis::from_secs(1_800_000_000);
        let claims: Claims = serde_json::from_value(json!({
            "iss": "https://issuer.test",
            "sub": "0190b6a8-1111-7000-8000-000000000001",
            "aud": ["api"],
            "client_id": "web",
            "iat": now.secs() - 60,
            "exp": now.secs() + 840,
            "jti": "0190b6a8-2222-7000-8000-000000000002",
            "scope": "read write",
            "sid": "0190b6a8-3333-7000-8000-000000000003",
            "auth_time": now.secs() - 60,
            "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"},
        }))
        .unwrap();
        let session = claims.sid.unwrap();
        let key_id = KeyId::parse(&"k".repeat(43), "kid").unwrap();
        let token = VerifiedToken::new(claims, key_id, Duration::ZERO);
        let index = Index::new();
        let result = |audience: &str, scope: &str| check(&token, &index, now, audience, &[scope.to_owned()]);
        assert_eq!(result("api", "read"), Ok(()));
        index.insert(&Revocation {
            target: Target::Session(session),
            epoch: 0,
            expires: now.plus(Duration::from_hours(1)),
            revoked: now,
        });
        assert_eq!(result("billing", "admin"), Err(InactiveReason::WrongAudience));
        assert_eq!(result("billing", "read"), Err(InactiveReason::WrongAudience));
        assert_eq!(result("api", "admin"), Err(InactiveReason::InsufficientScope));
        assert_eq!(result("api", "read"), Err(InactiveReason::Revoked));
    }
}
