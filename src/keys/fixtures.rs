//! Fixtures of the tests in `keys`.

#![cfg(feature = "server")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::clock::{Clock, UnixMillis, millis};
use crate::keys::rows::{KeySource, signing_row};
use crate::keys::seal::MasterKeyring;
use crate::keys::signing::SigningKey;
use crate::keys::verify::Policy;
use crate::keys::verifying::VerifyingKeys;
use crate::model::{Algorithm, Claims, KeyState};
use crate::secret::SystemEntropy;
use crate::store::keys::SigningRow;

/// The time of the tests, in seconds since the Unix epoch.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) fn now() -> UnixMillis {
    UnixMillis::from_secs(NOW)
}

pub(crate) fn policy() -> Policy {
    Policy {
        issuer: "https://issuer.test".into(),
        leeway: Duration::from_secs(5),
    }
}

/// The claims of a valid token, as JSON that a test changes.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://issuer.test",
        "sub": "0190b6a8-1111-7000-8000-000000000001",
        "aud": ["api"],
        "client_id": "web",
        "iat": NOW - 60,
        "exp": NOW + 840,
        "jti": "0190b6a8-2222-7000-8000-000000000002",
        "scope": "read write",
        "sid": "0190b6a8-3333-7000-8000-000000000003",
        "auth_time": NOW - 60,
        "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"},
    })
}

/// The header of a valid token, as JSON that a test changes.
pub(crate) fn header(key: &SigningKey) -> Value {
    json!({"typ": "at+jwt", "alg": key.algorithm().as_str(), "kid": key.id().as_str()})
}

/// Two pairs of header and payload of a valid token: with the members in another order than ours, and byte for byte as
/// this service writes them. The parser has a faster path for the second.
pub(crate) fn written(key: &SigningKey) -> [(String, String); 2] {
    let own = URL_SAFE_NO_PAD.decode(key.public().token_header()).unwrap();
    let typed: Claims = serde_json::from_value(claims()).unwrap();
    [
        (header(key).to_string(), claims().to_string()),
        (String::from_utf8(own).unwrap(), serde_json::to_string(&typed).unwrap()),
    ]
}

/// A token of exactly these header and payload bytes, with a valid signature.
pub(crate) fn signed(key: &SigningKey, header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.signature(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn verifying<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> VerifyingKeys {
    let mut verifying = VerifyingKeys::default();
    for key in keys {
        verifying.insert(key.public().clone(), None);
    }
    verifying
}

/// A master keyring with one new key.
pub(crate) fn master() -> MasterKeyring {
    MasterKeyring::parse(&MasterKeyring::generate(&SystemEntropy)).unwrap()
}

/// The row of a new key in `state`: created at `created`, in its state since `since`.
pub(crate) fn row(
    algorithm: Algorithm,
    state: KeyState,
    created: UnixMillis,
    since: UnixMillis,
    master: &MasterKeyring,
) -> SigningRow {
    let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
    let at = |wanted: &[KeyState]| wanted.contains(&state).then_some(since);
    SigningRow {
        state,
        activated: at(&[KeyState::Active, KeyState::Retired]),
        retired: at(&[KeyState::Retired]),
        revoked: at(&[KeyState::Revoked]),
        ..signing_row(&key, KeySource::Generated, created, master, &SystemEntropy).unwrap()
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub(crate) struct SetClock {
    monotonic: AtomicI64,
    /// How far the wall clock is ahead of the monotonic one, in milliseconds.
    ahead: AtomicI64,
}

impl SetClock {
    pub(crate) fn new() -> Self {
        Self {
            monotonic: AtomicI64::new(now().0),
            ahead: AtomicI64::new(0),
        }
    }

    /// Moves both clocks forward.
    pub(crate) fn advance(&self, span: Duration) {
        self.monotonic.fetch_add(millis(span), Ordering::Relaxed);
    }

    /// Sets the wall clock forward; the monotonic clock stays.
    pub(crate) fn leap(&self, span: Duration) {
        self.ahead.fetch_add(millis(span), Ordering::Relaxed);
    }

    /// Sets the wall clock back; the monotonic clock stays.
    pub(crate) fn leap_back(&self, span: Duration) {
        self.ahead.fetch_sub(millis(span), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.monotonic.load(Ordering::Relaxed) + self.ahead.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        UnixMillis(self.monotonic.load(Ordering::Relaxed)).since(UnixMillis(0))
    }
}
