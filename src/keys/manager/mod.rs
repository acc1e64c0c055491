//! The keys of a running replica: the ring in force, and how it follows the store.

mod admin;
mod bootstrap;
mod freshness;
mod lookup;
mod maintain;
mod select;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

pub use self::admin::Resealed;
use self::bootstrap::{made, propose};
use self::freshness::{Freshness, Moment};
use self::lookup::Unknown;
use super::ring::{KeyRing, ListedKey};
use super::seal::{Master, Unopened};
use super::verify::{Policy, Verified, claimed, verify};
use crate::clock::{Clock, UnixMillis};
use crate::model::audit::Origin;
use crate::model::{Algorithm, AuditEvent, AuditType, Error, InactiveReason, KeyId, Result, new_uuid};
use crate::secret::Entropy;
use crate::store::KeyStore;
use crate::store::keys::KeyRows;

/// A replica whose last heartbeat is older does not count, so that a frozen one cannot hold up a rotation for ever.
const ALIVE: Duration = Duration::from_secs(10);

/// What the configuration says of keys.
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// `tokens.algorithm`: how new signing keys sign.
    pub algorithm: Algorithm,
    /// `keys.rotation_period`: how long a key signs.
    pub rotation_period: Duration,
    /// `keys.prepublish`: how long a key is published before it signs.
    pub prepublish: Duration,
    /// `keys.jwks_max_age`: how long others may keep the key set.
    pub jwks_max_age: Duration,
    /// The longest life of an access token under this configuration: a retired key is published that long.
    pub longest_access: Duration,
    /// The longest life of a session: a refresh key is kept that long.
    pub longest_session: Duration,
    /// `password.pepper`: whether a pepper is needed.
    pub pepper: bool,
}

/// What the keys need of the world.
#[derive(Clone)]
pub struct KeysParts {
    /// Where they are kept.
    pub store: Arc<dyn KeyStore>,
    /// What they are sealed with.
    pub master: Arc<Master>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What they are made of.
    pub entropy: Arc<dyn Entropy>,
}

/// The keys of this replica. Reading is free of locks; the ring is replaced as a whole when the store has another.
pub struct Keys {
    parts: KeysParts,
    config: KeysConfig,
    replica: Uuid,
    ring: ArcSwap<KeyRing>,
    reloading: Mutex<()>,
    started: Moment,
    loaded: Freshness,
    version: watch::Sender<u64>,
    unknown: Unknown,
}

impl Keys {
    /// Opens the keys and begins their upkeep, of which the first round belongs to the start: it mends what was tampered
    /// with, and makes this replica known.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn start(parts: KeysParts, config: KeysConfig) -> Result<Self> {
        let keys = Self::open(parts, config).await?;
        keys.tick().await?;
        Ok(keys)
    }

    /// Loads the ring, after making what the store lacks: one ACTIVE and one PENDING signing key, a refresh key, a pepper if
    /// configured, and the check values. Of several replicas that start at once the store lets one make them.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a configuration that cannot work and for a master keyring that is not this store's: nothing
    /// has been written then. `STORE_UNAVAILABLE` if the store cannot be asked.
    pub async fn open(parts: KeysParts, config: KeysConfig) -> Result<Self> {
        if config.prepublish < config.jwks_max_age {
            let message = "must not be shorter than keys.jwks_max_age: others would meet a key before their copy of the set has it";
            return Err(Error::invalid("keys.prepublish", message));
        }
        let asked = Moment::of(&*parts.clock);
        let stored = parts.store.load_keys().await?;
        parts.master.belongs_to(&stored)?;
        let now = parts.clock.now();
        let proposed = propose(&parts, &config, &stored, now).await?;
        let rows = if proposed == KeyRows::default() {
            stored
        } else {
            let audit = made(&proposed, &parts, now);
            parts.store.ensure_keys(&proposed, &audit).await?
        };
        if !parts.master.opens_any(&rows) {
            // Another replica with another master key made them while we proposed ours.
            let message = "is not the one that this store's keys were sealed with";
            return Err(Error::invalid("keys.master_key", message));
        }
        let ring = KeyRing::open(rows, &parts.master, now.minus(config.prepublish)).numbered(1);
        report(&ring, None);
        Ok(Self {
            replica: new_uuid(now, &*parts.entropy),
            unknown: Unknown::new(),
            version: watch::Sender::new(1),
            reloading: Mutex::new(()),
            started: asked,
            loaded: Freshness::new(asked),
            ring: ArcSwap::from_pointee(ring),
            parts,
            config,
        })
    }

    /// The ring in force.
    #[must_use]
    pub fn current(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// The version of the ring in force: rises with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.ring.load().version()
    }

    /// The ring to sign with: the one in force if the store was asked within `ALIVE`, else after asking it.
    ///
    /// A replica that was frozen for longer is not waited for by a rotation; what it signed with a key that retired
    /// meanwhile would be refused everywhere.
    pub async fn fresh(&self) -> Result<Arc<KeyRing>> {
        if self.loaded.age(Moment::of(&*self.parts.clock)) > ALIVE {
            self.reload().await?;
        }
        Ok(self.current())
    }

    /// Counts the rings of this replica: changes whenever [`Keys::current`] does.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &KeysConfig {
        &self.config
    }

    /// Loads the rows again; whether the ring is another one now.
    pub async fn reload(&self) -> Result<bool> {
        let _one_at_a_time = self.reloading.lock().await;
        self.load().await
    }

    /// Loads the rows again if the ACTIVE key of the store, just read with something else, is not the ring's.
    pub async fn reload_if_active_differs(&self, active: Option<&KeyId>) -> Result<()> {
        if self.current().active_id() == active {
            return Ok(());
        }
        let _one_at_a_time = self.reloading.lock().await;
        // Of many calls that wait here, the first one does it for all.
        if self.current().active_id() != active {
            self.load().await?;
        }
        Ok(())
    }

    /// Verifies a token under the ring in force; for a key that it does not know, asks the store first, as
    /// [`Keys::on_unknown_kid`] permits. A store that cannot be asked then is an error: the token may be a good one.
    pub async fn verify(&self, token: &str, policy: &Policy) -> Result<Result<Verified, InactiveReason>> {
        let asked = self.parts.clock.monotonic();
        let verdict = verify(token, self.current().verifying(), policy, self.parts.clock.now());
        if verdict == Err(InactiveReason::UnknownKey)
            && let Some(claimed) = claimed(token)
            && self.on_unknown_kid(&claimed, asked).await?
        {
            return Ok(verify(
                token,
                self.current().verifying(),
                policy,
                self.parts.clock.now(),
            ));
        }
        Ok(verdict)
    }

    /// Every signing key, for `ListKeys` and `GetKeys`.
    #[must_use]
    pub fn listed(&self) -> Vec<ListedKey> {
        self.current().listed().collect()
    }

    /// Tells the store that this replica lives and which keys it has loaded.
    pub async fn heartbeat(&self) -> Result<()> {
        let loaded: Vec<KeyId> = self.current().verifying().ids().cloned().collect();
        self.parts.store.heartbeat(self.replica, &loaded).await
    }

    /// The earlier of what the wall clock says and what has passed since the start: a clock that leaps ahead for a moment
    /// must neither retire a key nor remove one whose tokens live.
    fn cautious_now(&self) -> UnixMillis {
        Moment::of(&*self.parts.clock).after(self.started)
    }

    fn audit(&self, kind: AuditType, subject: &impl ToString, origin: &Origin) -> AuditEvent {
        AuditEvent::new(kind, subject, origin, self.parts.clock.now(), &*self.parts.entropy)
    }

    /// The caller holds `reloading`, so that an older picture never replaces a newer one.
    async fn load(&self) -> Result<bool> {
        let asked = Moment::of(&*self.parts.clock);
        let rows = self.parts.store.load_keys().await?;
        self.loaded.set(asked);
        let settled = self.parts.clock.now().minus(self.config.prepublish);
        let current = self.current();
        if current.is_of(&rows, settled) {
            return Ok(false);
        }
        let ring = KeyRing::open(rows, &self.parts.master, settled).numbered(current.version() + 1);
        report(&ring, Some(&current));
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

/// Says loudly what is not in use, once per row.
fn report(ring: &KeyRing, before: Option<&KeyRing>) {
    for refused in ring.refused() {
        if before.is_some_and(|before| before.refused().contains(refused)) {
            continue;
        }
        let what = &refused.what;
        match &refused.why {
            Unopened::Tampered => {
                tracing::error!(%what, "a sealed row does not open and is not used: it was tampered with");
            }
            Unopened::UnknownMaster(name) => {
                tracing::error!(%what, master_key = %name, "a sealed row is not used: keys.master_key lacks the key that sealed it");
            }
        }
    }
    if ring.active().is_none() {
        tracing::error!("no signing key is usable: no token can be issued");
    }
}

#[cfg(test)]
mod tests;
