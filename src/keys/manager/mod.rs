//! The keys of a running replica: the current ring, and how it follows the store.

mod admin;
mod bootstrap;
mod lookup;
mod maintain;
mod select;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex as SyncMutex;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

pub use self::admin::ResealReport;
use self::lookup::KeyLookup;
use super::ring::{KeyRing, ListedKey};
use super::seal::{MasterKeyring, UnsealError};
use crate::clock::{Clock, ClockReading, UnixMillis};
use crate::model::audit::Origin;
use crate::model::{Algorithm, AuditEvent, AuditType, Error, KeyId, Result, new_uuid};
use crate::secret::Entropy;
use crate::store::KeyStore;
use crate::store::keys::{KeyRows, ReplicaKeys};

/// How long a replica counts as live after its last heartbeat. A frozen replica thus cannot block a rotation for ever.
const REPLICA_TTL: Duration = Duration::from_secs(10);

/// The configuration of keys.
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// `tokens.algorithm`: the algorithm of new signing keys.
    pub algorithm: Algorithm,
    /// `keys.rotation_period`: how long a key signs.
    pub rotation_period: Duration,
    /// `keys.prepublish`: how long a key is published before it signs.
    pub prepublish: Duration,
    /// `keys.jwks_max_age`: how long verifiers may cache the key set.
    pub jwks_max_age: Duration,
    /// The longest lifetime of an access token under this configuration. A retired key stays published that long.
    pub longest_access: Duration,
    /// The longest lifetime of a session. A refresh key is kept that long.
    pub longest_session: Duration,
    /// `password.pepper`: whether a pepper is needed.
    pub pepper: bool,
}

/// The store of the keys, with what is needed to create and seal them.
#[derive(Clone)]
pub struct KeyVault {
    /// The store of the keys.
    pub store: Arc<dyn KeyStore>,
    /// The master keyring that seals them.
    pub master: Arc<MasterKeyring>,
    /// The source of the time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// The keys of this replica. Reading takes no lock; when the store changes, the ring is replaced as a whole.
pub struct Keys {
    vault: KeyVault,
    config: KeysConfig,
    replica: Uuid,
    ring: ArcSwap<KeyRing>,
    reloading: Mutex<()>,
    started: ClockReading,
    /// When the last answer of the store was requested.
    last_loaded_at: SyncMutex<ClockReading>,
    version: watch::Sender<u64>,
    lookup: KeyLookup,
}

impl Keys {
    /// Opens the keys and runs the first [`Keys::tick`], which replaces tampered keys and announces this replica.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn start(vault: KeyVault, config: KeysConfig) -> Result<Self> {
        let keys = Self::open(vault, config).await?;
        keys.tick().await?;
        Ok(keys)
    }

    /// Loads the ring, after generating what the store lacks: one ACTIVE and one PENDING signing key, a refresh key, a pepper
    /// if configured, and the check values. If several replicas start at once, the store accepts the keys of one of them.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, before any write, for a `keys.prepublish` below `keys.jwks_max_age` and for a master keyring that
    /// does not belong to this store. `STORE_UNAVAILABLE` if the store cannot be reached.
    pub async fn open(vault: KeyVault, config: KeysConfig) -> Result<Self> {
        if config.prepublish < config.jwks_max_age {
            let message = "must not be shorter than keys.jwks_max_age, or verifiers meet keys that their copy of the key set lacks";
            return Err(Error::invalid("keys.prepublish", message));
        }
        let requested = vault.clock.read();
        let stored = vault.store.load_keys().await?;
        vault.master.check_belongs_to(&stored)?;
        let now = vault.clock.now();
        let missing = vault.missing_rows(&config, &stored, now).await?;
        let rows = if missing == KeyRows::default() {
            stored
        } else {
            let audit = vault.initial_keys_event(&missing, now);
            vault.store.ensure_keys(&missing, &audit).await?
        };
        if !vault.master.unseals_any(&rows) {
            // A replica with another master key wrote its keys between our read and our write.
            let message = "is not the master key that sealed the keys in this store; configure that key";
            return Err(Error::invalid("keys.master_key", message));
        }
        let ring = KeyRing::open(rows, &vault.master, now.minus(config.prepublish)).numbered(1);
        log_unusable_rows(&ring, None);
        Ok(Self {
            replica: new_uuid(now, &*vault.entropy),
            lookup: KeyLookup::new(),
            version: watch::Sender::new(1),
            reloading: Mutex::new(()),
            started: requested,
            last_loaded_at: SyncMutex::new(requested),
            ring: ArcSwap::from_pointee(ring),
            vault,
            config,
        })
    }

    /// The current ring.
    #[must_use]
    pub fn current(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// The version of the current ring. It rises with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.ring.load().version()
    }

    /// The ring to sign with. Reloads it first if the last load is older than `REPLICA_TTL`.
    ///
    /// A rotation does not wait for a replica that was frozen for longer. If such a replica signed with its old ring, its key
    /// may have retired meanwhile, and every verifier would refuse the token.
    pub async fn fresh(&self) -> Result<Arc<KeyRing>> {
        if self.vault.clock.read().since(*self.last_loaded_at.lock()) > REPLICA_TTL {
            self.reload().await?;
        }
        Ok(self.current())
    }

    /// A receiver of the version, which changes whenever [`Keys::current`] does.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The configuration of these keys.
    #[must_use]
    pub const fn config(&self) -> &KeysConfig {
        &self.config
    }

    /// Loads the rows again; returns whether the ring changed.
    pub async fn reload(&self) -> Result<bool> {
        let _one_at_a_time = self.reloading.lock().await;
        self.load().await
    }

    /// Loads the rows again if the ring has another ACTIVE key than `active`, which the caller just read from the store.
    pub async fn reload_if_active_differs(&self, active: Option<&KeyId>) -> Result<()> {
        if self.current().active_id() == active {
            return Ok(());
        }
        let _one_at_a_time = self.reloading.lock().await;
        // If many calls wait here, the first one reloads for all.
        if self.current().active_id() != active {
            self.load().await?;
        }
        Ok(())
    }

    /// All signing keys, for `ListKeys` and `GetKeys`.
    #[must_use]
    pub fn listed(&self) -> Vec<ListedKey> {
        self.current().listed().collect()
    }

    /// Tells the store that this replica is live, and which keys it has loaded.
    pub async fn heartbeat(&self) -> Result<()> {
        let loaded: Vec<KeyId> = self.current().verifying().ids().cloned().collect();
        let replica = ReplicaKeys {
            replica: self.replica,
            signing: loaded,
            master: self.vault.master.names().map(str::to_owned).collect(),
        };
        self.vault.store.heartbeat(&replica).await
    }

    /// The time for decisions to retire or remove a key: a wall clock that leaps ahead for a moment must not end a key whose
    /// tokens are still valid.
    fn capped_now(&self) -> UnixMillis {
        self.vault.clock.read().capped_wall(self.started)
    }

    fn audit(&self, kind: AuditType, subject: &impl ToString, origin: &Origin) -> AuditEvent {
        AuditEvent::new(kind, subject, origin, self.vault.clock.now(), &*self.vault.entropy)
    }

    /// Requires that the caller holds `reloading`, so that an older ring never replaces a newer one.
    async fn load(&self) -> Result<bool> {
        let requested = self.vault.clock.read();
        let rows = self.vault.store.load_keys().await?;
        *self.last_loaded_at.lock() = requested;
        let settled = self.vault.clock.now().minus(self.config.prepublish);
        let current = self.current();
        if current.matches(&rows, settled) {
            return Ok(false);
        }
        let ring = KeyRing::open(rows, &self.vault.master, settled).numbered(current.version() + 1);
        log_unusable_rows(&ring, Some(&current));
        self.ring.store(Arc::new(ring));
        self.version.send_modify(|version| *version += 1);
        Ok(true)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Logs the rows that do not open and that `before` did not have.
fn log_unusable_rows(ring: &KeyRing, before: Option<&KeyRing>) {
    for unusable in ring.unusable_rows() {
        if before.is_some_and(|before| before.unusable_rows().contains(unusable)) {
            continue;
        }
        let item = &unusable.item;
        match &unusable.error {
            UnsealError::Tampered => {
                tracing::error!(%item, "a sealed row does not open and is not used: it was tampered with");
            }
            UnsealError::Unreadable(reason) => {
                tracing::error!(%item, %reason, "a standby signing key is not used: another JWT library cannot read its tokens; it is replaced");
            }
            UnsealError::UnknownMaster(name) => {
                tracing::error!(%item, master_key = %name, "a sealed row is not used: keys.master_key lacks the master key that sealed it");
            }
        }
    }
    if ring.active().is_none() {
        tracing::error!("no signing key is usable: no token can be issued");
    }
}

#[cfg(test)]
mod tests;
