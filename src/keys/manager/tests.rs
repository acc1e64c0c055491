//! Tests with several replicas on one SQLite database, under a clock that the test moves.

mod changes;
mod lifecycle;
mod published;
mod refresh_keys;
mod start;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::keys::fixtures::{SetClock, claims, policy};
use crate::keys::verify::{Claimed, claimed, verify};
use crate::model::{Claims, ErrorKind, InactiveReason, KeyState};
use crate::secret::{SecretText, SystemEntropy};
use crate::store::sqlite::{Database, Mode};

const MINUTE: Duration = Duration::from_mins(1);

/// A deployment on which replicas start: one store, one master keyring, one clock.
struct Deployment {
    _folder: tempfile::TempDir,
    clock: Arc<SetClock>,
    db: Database,
    master: SecretText,
}

impl Deployment {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SetClock::new());
        Self {
            db: open(folder.path(), &clock),
            master: MasterKeyring::generate(&SystemEntropy),
            _folder: folder,
            clock,
        }
    }

    fn vault(&self, master: &SecretText) -> KeyVault {
        KeyVault {
            store: Arc::new(self.db.clone()),
            master: Arc::new(MasterKeyring::parse(master).unwrap()),
            clock: self.clock.clone(),
            entropy: Arc::new(SystemEntropy),
        }
    }

    async fn start_with(&self, config: KeysConfig) -> Result<Keys> {
        Keys::start(self.vault(&self.master), config).await
    }

    async fn replica(&self) -> Keys {
        self.start_with(config()).await.unwrap()
    }

    async fn rows(&self) -> KeyRows {
        self.db.load_keys().await.unwrap()
    }

    /// Changes rows, as an attacker with access to the database could.
    async fn tamper(&self, sql: &'static str) {
        self.db.call(move |tx| Ok(tx.run(sql, [])?)).await.unwrap();
    }

    /// Lets time pass in steps of one minute, and lets these replicas tick after each step.
    async fn run_for(&self, span: Duration, replicas: &[&Keys]) {
        let mut left = span;
        while left > Duration::ZERO {
            let step = left.min(MINUTE);
            self.clock.advance(step);
            left = left.saturating_sub(step);
            for replica in replicas {
                replica.tick().await.unwrap();
            }
        }
    }

    /// A valid token issued now, signed like those of `Issue`.
    async fn token(&self, keys: &Keys) -> String {
        let now = self.clock.now().secs();
        let mut claims_json = claims();
        claims_json["iat"] = json!(now);
        claims_json["exp"] = json!(now + 900);
        let claims: Claims = serde_json::from_value(claims_json).unwrap();
        keys.fresh().await.unwrap().active().unwrap().sign(&claims).unwrap()
    }
}

fn open(folder: &Path, clock: &Arc<SetClock>) -> Database {
    Database::open(folder, Mode::Serve, clock.clone()).unwrap()
}

fn config() -> KeysConfig {
    KeysConfig {
        algorithm: Algorithm::EdDsa,
        rotation_period: Duration::from_hours(1),
        prepublish: MINUTE * 10,
        jwks_max_age: MINUTE * 5,
        longest_access: MINUTE * 15,
        longest_session: Duration::from_hours(5),
        pepper: false,
    }
}

/// Verifies a token after a lookup of its key, as `Validate` does for an unknown key.
async fn verdict(keys: &Keys, token: &str) -> Result<(), InactiveReason> {
    let asked = keys.vault.clock.monotonic();
    if let Some(claimed) = claimed(token) {
        keys.look_up_kid(&claimed, asked).await.unwrap();
    }
    verify(token, keys.current().verifying(), &policy(), keys.vault.clock.now()).map(drop)
}

fn ids(keys: &Keys, state: KeyState) -> Vec<KeyId> {
    keys.listed()
        .into_iter()
        .filter(|key| key.state == state)
        .map(|key| key.id)
        .collect()
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/pem/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn active(keys: &Keys) -> KeyId {
    let [id] = ids(keys, KeyState::Active).try_into().unwrap();
    id
}

fn standby(keys: &Keys) -> KeyId {
    let [id] = ids(keys, KeyState::Pending).try_into().unwrap();
    id
}
