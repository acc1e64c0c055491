//! Signing keys as messages.

use crate::keys::ring::{KeyRing, ListedKey};
use crate::proto;
use crate::proto::convert::time::timestamp;

/// Converts a key.
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

/// Converts a key ring to the key set that verifiers need.
#[must_use]
pub fn key_set(ring: &KeyRing) -> proto::KeySet {
    proto::KeySet {
        jwks_json: ring.jwks_json().to_owned(),
        keys: ring.listed().map(|listed| key(&listed)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::model::{Algorithm, KeyId, KeyState};

    #[test]
    fn only_past_events_have_a_time() {
        let listed = ListedKey {
            id: KeyId::parse(&"k".repeat(43), "key_id").unwrap(),
            algorithm: Algorithm::Es256,
            state: KeyState::Active,
            created: UnixMillis(1_000),
            activated: Some(UnixMillis(2_000)),
            retired: None,
            revoked: None,
        };
        let message = key(&listed);
        assert_eq!(
            (message.algorithm.as_str(), message.state()),
            ("ES256", proto::KeyState::Active)
        );
        assert_eq!(
            (
                message.create_time.unwrap().seconds,
                message.activate_time.unwrap().seconds
            ),
            (1, 2)
        );
        assert_eq!((message.retire_time, message.revoke_time), (None, None));
    }
}
