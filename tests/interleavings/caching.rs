//! The cache of verified tokens: a removed key is not outlived by what it verified.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::clock::{Clock, UnixMillis};
use countersign::keys::signing::SigningKey;
use countersign::model::{Claims, InactiveReason, Result};
use countersign::revocation::Index;
use loom::thread;
use serde_json::json;

use super::keys::FollowedKeys;
use super::keys::verifying::VerifyingKeys;
use super::validator::{TokenValidator, TrustState, ValidatorConfig};

const NOW: i64 = 1_800_000_000;

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis::from_secs(NOW)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A verifier with the real keys of the client library, and no revocations.
struct Trust {
    keys: FollowedKeys,
    index: Index,
}

impl TrustState for Trust {
    fn keys_version(&self) -> u64 {
        self.keys.version()
    }

    fn keys(&self) -> (Arc<VerifyingKeys>, u64) {
        self.keys.get()
    }

    fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R {
        read(&self.index)
    }

    fn as_of(&self, now: UnixMillis) -> Result<UnixMillis> {
        Ok(now)
    }
}

/// A key and a token that it signed.
static SIGNED: LazyLock<(SigningKey, String)> = LazyLock::new(|| {
    let key = SigningKey::import(include_bytes!("../vectors/pem/ed25519.pkcs8.pem")).unwrap();
    let claims: Claims = serde_json::from_value(json!({
        "iss": "i", "sub": "s", "aud": ["api"], "client_id": "web", "iat": NOW - 60, "exp": NOW + 60,
        "jti": "0190b6a8-2222-7000-8000-000000000002", "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"},
    }))
    .unwrap();
    let token = key.sign(&claims).unwrap();
    (key, token)
});

#[test]
fn a_token_is_refused_as_soon_as_its_key_is_removed() {
    // Not in a run of loom: it is made once.
    let (key, token) = &*SIGNED;
    loom::model(move || {
        let trust = Trust {
            keys: FollowedKeys::default(),
            index: Index::new(),
        };
        let mut keys = VerifyingKeys::default();
        keys.insert(key.public().clone(), None);
        trust.keys.set(keys);
        let config = ValidatorConfig {
            issuer: "i".to_owned(),
            leeway: Duration::ZERO,
            cache_bytes: 1024 * 1024,
            answer_ttl: Duration::ZERO,
        };
        let validator = Arc::new(TokenValidator::new(trust, Arc::new(StoppedClock), config));
        let validating = {
            let validator = Arc::clone(&validator);
            thread::spawn(move || drop(validator.validate(token, "", &[]).unwrap()))
        };
        validator.trust().keys.set(VerifyingKeys::default());
        let refused = || validator.validate(token, "", &[]).unwrap().token.map(drop);
        assert_eq!(refused(), Err(InactiveReason::UnknownKey));
        validating.join().unwrap();
        assert_eq!(refused(), Err(InactiveReason::UnknownKey));
        assert!(validator.validate_cached(token, "", &[]).is_none());
    });
}
