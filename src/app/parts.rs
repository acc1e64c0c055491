//! Everything that a running service is made of.

use std::sync::Arc;
use std::time::Duration;

use super::error::StartError;
use super::settings;
use super::stores::{Access, Meter, Stores};
use crate::account::{Clients, Sessions, AuditTrail, Users};
use crate::clock::Clock;
use crate::config::{Config, Mode, Registration};
use crate::gateway::Gateway;
use crate::keys::manager::{Keys, KeysParts};
use crate::keys::seal::MasterKeyring;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, AuditType, Client, ClientId, Grant};
use crate::password::{Peppers, Pool};
use crate::revocation::{Feed, RevocationPublisher};
use crate::secret::{Entropy, SecretText};
use crate::store::{Announcements, DurableStore, SessionStore};
use crate::throttle::Throttle;
use crate::token::{Parts, Tokens};

/// Everything that a running service is made of.
pub struct App {
    /// Everything that outlives the rest.
    pub durable: Arc<dyn DurableStore>,
    /// Live sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// The fast road between replicas.
    pub announcements: Option<Arc<dyn Announcements>>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The revocations.
    pub feed: Arc<Feed>,
    /// What carries a revocation on.
    pub publisher: Arc<RevocationPublisher>,
    /// The hashing pool.
    pub hashing: Arc<Pool>,
    /// The rules of tokens.
    pub tokens: Arc<Tokens>,
    /// The rules of the edge.
    pub gateway: Arc<Gateway<Tokens>>,
    /// The rules of users.
    pub users: Arc<Users>,
    /// The rules of clients.
    pub clients: Arc<Clients>,
    /// The rules of sessions as people see them.
    pub live: Arc<Sessions>,
    /// The audit trail.
    pub trail: AuditTrail,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The randomness.
    pub entropy: Arc<dyn Entropy>,
    /// How long the audit trail is kept.
    pub audit_retention: Duration,
    /// Whether new hashes are peppered.
    pub pepper: bool,
    /// How busy the stores are, for metrics.
    pub meter: Meter,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Puts the service together over opened stores: checks the master key before anything is written, makes what a
    /// first start makes (keys, the client `default`).
    pub async fn build(config: &Config, stores: Stores) -> Result<Arc<Self>, StartError> {
        let Stores {
            access,
            durable,
            sessions,
            announcements,
            throttles,
            local_throttles,
            clock,
            entropy,
            meter,
        } = stores;
        let fresh = durable.load_keys().await?.checks.is_empty();
        let master = Arc::new(master(config, fresh, &*entropy)?);
        let parts = KeysParts {
            store: durable.clone(),
            master: master.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
        };
        let keys = settings::keys(config);
        let keys = Arc::new(match access {
            Access::Serve => Keys::start(parts, keys).await?,
            // A command is no replica: it signs nothing, nobody waits for it, and its configuration may be another.
            Access::Beside => Keys::open(parts, keys).await?,
        });
        let trail = AuditTrail::new(durable.clone(), clock.clone(), entropy.clone());
        ensure_default_client(&*durable, &*clock, &*entropy).await?;
        durable.note_session_life(config.tokens.session_ttl).await?;

        let feed = Feed::new(clock.clone(), settings::feed(config));
        let publisher = Arc::new(RevocationPublisher::new(
            feed.clone(),
            sessions.clone(),
            announcements.clone(),
        ));
        let hashing = Arc::new(Pool::start(
            &config.password,
            peppers(&keys, config.password.pepper),
            clock.clone(),
            entropy.clone(),
        )?);
        let throttle = Arc::new(Throttle::new(
            throttles,
            local_throttles,
            master,
            clock.clone(),
            settings::throttle(config),
        ));
        let tokens = Arc::new(Tokens::new(Parts {
            durable: durable.clone(),
            sessions: sessions.clone(),
            publisher: publisher.clone(),
            keys: keys.clone(),
            feed: feed.clone(),
            hashing: hashing.clone(),
            throttle: throttle.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            config: settings::tokens(config),
        }));
        let gateway = Gateway::new(tokens.clone(), clock.clone(), settings::gateway(config)?);
        let users = Arc::new(Users {
            store: durable.clone(),
            hashing: hashing.clone(),
            throttle,
            trail: trail.clone(),
            publisher: publisher.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            open_registration: config.users.registration == Registration::Open,
        });
        let clients = Arc::new(Clients {
            store: durable.clone(),
            trail: trail.clone(),
            publisher: publisher.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
        });
        let live = Arc::new(Sessions {
            live: sessions.clone(),
            durable: durable.clone(),
        });
        Ok(Arc::new(Self {
            durable,
            sessions,
            announcements,
            keys,
            feed,
            publisher,
            hashing,
            tokens,
            gateway: Arc::new(gateway),
            users,
            clients,
            live,
            trail,
            clock,
            entropy,
            audit_retention: config.telemetry.audit_retention,
            pepper: config.password.pepper,
            meter,
        }))
    }
}

/// The peppers of the ring, for the hashing pool.
pub(super) fn peppers(keys: &Keys, in_use: bool) -> Peppers {
    let ring = keys.current();
    Peppers::new(ring.peppers().map(|(id, pepper)| (id, pepper.clone())), in_use)
}

/// The client that an empty `client_id` means, made at the first start.
async fn ensure_default_client(
    durable: &dyn DurableStore,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(), StartError> {
    let now = clock.now();
    let client = Client {
        id: ClientId::default(),
        display_name: "Default".to_owned(),
        grants: vec![Grant::Password],
        audiences: vec!["*".to_owned()],
        scopes: vec!["*".to_owned()],
        access_token_ttl: None,
        refresh_idle_ttl: None,
        session_ttl: None,
        refresh_grace: None,
        reuse_policy: None,
        max_sessions_per_user: 0,
        disabled: false,
        created: now,
        updated: now,
    };
    let event = AuditEvent::new(AuditType::ClientCreated, &client.id, &Origin::system(), now, entropy);
    durable
        .ensure_default_client(&client, &event.with_client(&client.id))
        .await?;
    Ok(())
}

/// The master keyring: from the configuration; embedded, a file that the first start makes.
fn master(config: &Config, fresh: bool, entropy: &dyn Entropy) -> Result<MasterKeyring, StartError> {
    match (&config.keys.master_key, config.mode()) {
        (Some(text), _) => Ok(MasterKeyring::parse(text)?),
        (None, Mode::Clustered) => Err(StartError::Config(
            "keys.master_key: needed with storage.database_url; every replica has the same \
             (make one: head -c32 /dev/urandom | base64)"
                .to_owned(),
        )),
        (None, Mode::Embedded) => {
            let path = config.storage.data_dir.join(MASTER_FILE);
            if !fresh && !path.exists() {
                // A new key could open nothing: making one would hide that the old one is missing.
                return Err(StartError::Config(format!(
                    "keys.master_key: {} is missing, and the keys in this data folder are sealed with it",
                    path.display()
                )));
            }
            let text = master_file(&path, entropy)
                .map_err(|error| StartError::unreachable(&path.display().to_string(), error))?;
            Ok(MasterKeyring::parse(&text)?)
        }
    }
}

/// The master keyring as far as it is there already; nothing is made.
pub(super) fn known_master(config: &Config) -> Result<Option<MasterKeyring>, StartError> {
    if let Some(text) = &config.keys.master_key {
        return Ok(Some(MasterKeyring::parse(text)?));
    }
    let path = config.storage.data_dir.join(MASTER_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(MasterKeyring::parse(&SecretText::new(text.trim_end()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StartError::unreachable(&path.display().to_string(), error)),
    }
}

/// The master key's file in the data folder, 0600.
const MASTER_FILE: &str = "master.key";

/// Reads the master key's file, or makes it: whole or not at all, and never over one that is there.
fn master_file(path: &std::path::Path, entropy: &dyn Entropy) -> std::io::Result<SecretText> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        read => return read.map(|text| SecretText::new(text.trim_end())),
    }
    let key = MasterKeyring::generate(entropy);
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(key.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let placed = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match placed {
        // Another process was faster: its key is the one.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        placed => placed?,
    }
    std::fs::read_to_string(path).map(|text| SecretText::new(text.trim_end()))
}
