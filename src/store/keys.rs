//! Keys at rest: signing keys, refresh keys, peppers and the check values of master keys. `keys::seal` seals the
//! private halves before they are stored, so a store never has one in clear.

use async_trait::async_trait;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{Algorithm, AuditEvent, KeyId, KeyState, Result, Revocation};

/// A stored signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRow {
    /// The RFC 7638 thumbprint.
    pub id: KeyId,
    /// The signature algorithm.
    pub algorithm: Algorithm,
    /// The public half: a JWK as JSON, without `kid`, `use` and `alg`.
    pub public_jwk: String,
    /// The private half, sealed.
    pub sealed: Vec<u8>,
    /// The state in its life.
    pub state: KeyState,
    /// When it was created and published.
    pub created: UnixMillis,
    /// When it began to sign.
    pub activated: Option<UnixMillis>,
    /// When it stopped signing.
    pub retired: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked: Option<UnixMillis>,
}

/// The purpose of a symmetric secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretPurpose {
    /// Tags refresh tokens.
    Refresh,
    /// Peppers passwords.
    Pepper,
}

impl SecretPurpose {
    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::Pepper => "pepper",
        }
    }

    /// The reverse of [`SecretPurpose::as_str`].
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        [Self::Refresh, Self::Pepper]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
    }
}

/// A stored symmetric secret. The one with the largest id of a purpose is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    /// The purpose.
    pub purpose: SecretPurpose,
    /// The number that tokens or hashes name it by; counts from 1.
    pub id: u32,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
    /// When it was created.
    pub created: UnixMillis,
}

/// The check value of a master key: a known text sealed under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRow {
    /// A name of the master key that tells nothing about the key.
    pub name: String,
    /// The known text, sealed.
    pub sealed: Vec<u8>,
}

/// All stored keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRows {
    /// The signing keys, oldest first.
    pub signing: Vec<SigningRow>,
    /// The secrets, sorted by purpose and id.
    pub secrets: Vec<SecretRow>,
    /// The check values of all master keys that were ever used.
    pub checks: Vec<CheckRow>,
}

/// The keys that a running replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaKeys {
    /// One running process.
    pub replica: Uuid,
    /// The signing keys that it has loaded.
    pub signing: Vec<KeyId>,
    /// The names of its master keys. Empty for a version that does not report them.
    pub master: Vec<String>,
}

/// The store of keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Reads all keys, as they are at one moment.
    async fn load_keys(&self) -> Result<KeyRows>;

    /// Adds the proposed rows of each kind that has no row yet (signing, refresh, pepper; checks by name), and returns
    /// all stored keys. Of several replicas that start at once, exactly one adds its rows.
    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows>;

    /// Adds a signing key in the state PENDING. `false` if another key of its algorithm is PENDING.
    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool>;

    /// Adds an imported signing key, even if another key is PENDING. `false` if its id is stored already.
    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool>;

    /// Makes a PENDING key ACTIVE and the ACTIVE one RETIRED. `false` if `active` is no longer the ACTIVE key. Uses the
    /// database's time: tokens that are signed after a retirement are refused, so its time must not depend on the clock
    /// of a replica.
    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool>;

    /// Makes a key REVOKED and revokes every token that it signed. If the key was ACTIVE, `standby` becomes ACTIVE in
    /// the same transaction (`LAST_ACTIVE_KEY` if there is none). `KEY_NOT_FOUND` if the key is unknown. Revoking a key
    /// again changes nothing and returns the row. Uses the database's time.
    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)>;

    /// Removes a key that is RETIRED or REVOKED; returns whether it did.
    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool>;

    /// Adds a secret with the next id of its purpose if the newest is still `newest`; returns whether it did.
    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool>;

    /// Removes a secret that no token or hash names any more, never the newest of its purpose; returns whether it did.
    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool>;

    /// Replaces the sealed halves (the same keys under another master key) and adds check values, in one transaction.
    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()>;

    /// Records that this replica is alive and which keys it holds. Removes replicas without a heartbeat for a day.
    async fn heartbeat(&self, replica: &ReplicaKeys) -> Result<()>;

    /// The replicas with a heartbeat in the last `within_millis` (by the database's time).
    async fn live_replicas(&self, within_millis: i64) -> Result<Vec<ReplicaKeys>>;
}
