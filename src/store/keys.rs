//! Keys at rest: signing keys, refresh keys, peppers and the check values of master keys. Private halves are sealed by
//! `keys::seal` before they come here; a store never sees one open.

use async_trait::async_trait;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{Algorithm, AuditEvent, KeyId, KeyState, Result, Revocation};

/// A signing key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRow {
    /// RFC 7638 thumbprint.
    pub id: KeyId,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The public half: one JWK as JSON, without `kid`, `use` and `alg`.
    pub public_jwk: String,
    /// The private half, sealed.
    pub sealed: Vec<u8>,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made, which is when it was published.
    pub created: UnixMillis,
    /// When it began to sign.
    pub activated: Option<UnixMillis>,
    /// When it ceased to sign.
    pub retired: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked: Option<UnixMillis>,
}

/// What a symmetric secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretPurpose {
    /// Tags refresh tokens.
    Refresh,
    /// Peppers passwords.
    Pepper,
}

impl SecretPurpose {
    /// As stored.
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

/// A symmetric secret as stored; the largest id of a purpose is the one in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    /// What it is for.
    pub purpose: SecretPurpose,
    /// Named by the tokens or hashes that use it; counts from 1.
    pub id: u32,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created: UnixMillis,
}

/// The check value of a master key: a known text sealed under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRow {
    /// Names the master key without telling anything of it.
    pub name: String,
    /// The known text, sealed.
    pub sealed: Vec<u8>,
}

/// Everything that the store keeps of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRows {
    /// Signing keys, oldest first, without removed ones.
    pub signing: Vec<SigningRow>,
    /// Secrets, by purpose and id.
    pub secrets: Vec<SecretRow>,
    /// Check values of the master keys ever used.
    pub checks: Vec<CheckRow>,
}

/// Keys at rest.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// All of them, of one moment.
    async fn load_keys(&self) -> Result<KeyRows>;

    /// Adds, of each kind that has no row at all (signing, refresh, pepper, checks by name), what is proposed; answers
    /// what is stored then. Of several replicas that start at once exactly one adds.
    async fn ensure_keys(&self, proposed: &KeyRows, audit: &AuditEvent) -> Result<KeyRows>;

    /// Adds a signing key in the state PENDING, unless one of its algorithm is pending (then false). The rows of `checks`
    /// and `ensure_keys` are left alone.
    async fn add_pending_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool>;

    /// Adds a signing key whatever is pending (an imported one). `false` if its id is known already.
    async fn import_key(&self, key: &SigningRow, audit: &AuditEvent) -> Result<bool>;

    /// PENDING → ACTIVE, and the one that was ACTIVE → RETIRED, if `active` still is; false if somebody was faster. At the
    /// store's time: what is signed after a retirement is refused, so no replica's clock may say when that was.
    async fn activate_key(&self, id: &KeyId, active: Option<&KeyId>, audit: &AuditEvent) -> Result<bool>;

    /// Any state → REVOKED, with a revocation of everything that it signed; if it was ACTIVE, `standby` becomes ACTIVE
    /// in the same transaction (`LAST_ACTIVE_KEY` if there is none). `KEY_NOT_FOUND` if it is unknown.
    /// Revoking it again changes nothing and answers the row. At the store's time.
    async fn revoke_key(
        &self,
        id: &KeyId,
        standby: Option<&KeyId>,
        audit: &AuditEvent,
    ) -> Result<(SigningRow, Option<Revocation>)>;

    /// Removes a RETIRED or REVOKED key, if it still is; whether it did.
    async fn remove_key(&self, id: &KeyId, audit: &AuditEvent) -> Result<bool>;

    /// Adds a secret with the next id of its purpose, if the newest is still `newest`; whether it did.
    async fn add_secret(&self, secret: &SecretRow, newest: u32, audit: &AuditEvent) -> Result<bool>;

    /// Removes a secret that nothing can name any more, never the newest of its purpose; whether it did.
    async fn remove_secret(&self, purpose: SecretPurpose, id: u32, audit: &AuditEvent) -> Result<bool>;

    /// Replaces sealed halves (same keys under another master key) and adds check values, in one transaction.
    async fn reseal_keys(&self, rows: &KeyRows, audit: &AuditEvent) -> Result<()>;

    /// Says that this replica lives and has loaded these signing keys; forgets replicas silent for a day.
    async fn heartbeat(&self, replica: Uuid, loaded: &[KeyId]) -> Result<()>;

    /// Whether every replica heard of within `within_millis` (by the store's clock) has loaded this key.
    async fn loaded_everywhere(&self, id: &KeyId, within_millis: i64) -> Result<bool>;
}
