//! Signing keys.

use crate::keys::ring::{KeyRing, ListedKey};
use crate::model::{Error, Result};
use crate::proto;
use crate::proto::convert::time::timestamp;

/// The longest reason, in bytes.
const MAX_REASON: usize = 256;

/// A key as a message.
#[must_use]
pub fn key(key: &ListedKey) -> proto::Key {
    proto::Key {
        key_id: key.id.to_string(),
        algorithm: key.algorithm.as_str().to_owned(),
        state: proto::KeyState::from(key.state).into(),
        create_time: Some(timestamp(key.created)),
        activate_time: key.activated.map(timestamp),
        retire_time: key.retired.map(timestamp),
        revoke_time: key.revoked.map(timestamp),
    }
}

/// A key ring as verifiers need it.
#[must_use]
pub fn key_set(ring: &KeyRing) -> proto::KeySet {
    proto::KeySet {
        jwks_json: ring.jwks_json().to_owned(),
        keys: ring.listed().map(|listed| key(&listed)).collect(),
    }
}

/// Why somebody revokes: goes to the audit trail, so it must not break its lines.
pub fn reason(text: &str) -> Result<&str> {
    if text.len() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            "reason",
            "must be at most 256 bytes without control characters",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::model::{Algorithm, KeyId, KeyState};

    #[test]
    fn only_what_has_happened_has_a_time() {
        let listed = ListedKey {
            id: KeyId::parse(&"k".repeat(43), "key_id").unwrap(),
            algorithm: Algorithm::Es256,
            state: KeyState::Active,
            created: UnixMillis(1_000),
            activated: Some(UnixMillis(2_000)),
            retired: None,
            revoked: None,
        };
        let told = key(&listed);
        assert_eq!(
            (told.algorithm.as_str(), told.state()),
            ("ES256", proto::KeyState::Active)
        );
        assert_eq!(
            (told.create_time.unwrap().seconds, told.activate_time.unwrap().seconds),
            (1, 2)
        );
        assert_eq!((told.retire_time, told.revoke_time), (None, None));
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason("leaked in a log").unwrap(), "leaked in a log");
        for bad in ["a\0b", "a\r\nb", &"x".repeat(257)] {
            assert_eq!(reason(bad).unwrap_err().violations[0].field, "reason");
        }
    }
}
