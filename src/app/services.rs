//! The objects of a running service, and how they are put together.

use std::sync::Arc;
use std::time::Duration;

use super::error::StartError;
use super::gateway::gateway_config;
use super::master_key;
use super::stores::{Access, Stores};
use crate::account::{AuditTrail, Clients, Sessions, Users};
use crate::attempts::AttemptLog;
use crate::clock::Clock;
use crate::config::{self, Config, Registration};
use crate::gateway::Gateway;
use crate::keys::manager::{KeyVault, Keys, KeysConfig};
use crate::keys::seal::MasterKeyring;
use crate::keys::verify::Policy;
use crate::model::audit::Origin;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::session::MAX_SESSION_TTL;
use crate::model::{AuditEvent, AuditType, Client, ClientId, Error, ErrorKind, Grant, Result};
use crate::password::{Peppers, Pool};
use crate::revocation::{Feed, RevocationPublisher};
use crate::secret::Entropy;
use crate::store::throttles::Rate;
use crate::throttle::{Throttle, ThrottleConfig};
use crate::token::{
    AccessTokenSigner, AuditWriter, BearerAuthenticator, ClientSecretIssuer, IgnoredAddresses, PasswordIssuer,
    RefreshTokenCodec, Refresher, ReuseHandler, RevocationRecorder, Revoker, ServiceValidator, SessionLimit,
    SessionStarter, TokenExchanger,
};
use crate::validator::{ReplicaTrust, TokenValidator, ValidatorConfig};

/// The memory of the cache of verified tokens, in bytes: about 16,000 tokens of a typical length.
pub(super) const TOKEN_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Makes a pool: [`Pool::start`] or [`Pool::inline`].
pub type StartHashing = fn(&config::Password, Peppers, Arc<dyn Clock>, Arc<dyn Entropy>) -> Result<Pool>;

/// The objects of a running service, over opened stores.
pub struct App {
    /// The stores, the clock and the randomness.
    pub stores: Stores,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The revocations.
    pub feed: Arc<Feed>,
    /// Publishes a recorded revocation.
    pub publisher: Arc<RevocationPublisher>,
    /// Hashes passwords.
    pub hashing: Arc<Pool>,
    /// Validates access tokens.
    pub validator: Arc<ServiceValidator>,
    /// Authenticates callers by bearer token.
    pub authenticator: Arc<BearerAuthenticator>,
    /// Issues tokens for a password.
    pub password_issuer: Arc<PasswordIssuer>,
    /// Issues tokens for a client's secret.
    pub client_secret_issuer: Arc<ClientSecretIssuer>,
    /// Exchanges tokens.
    pub token_exchanger: Arc<TokenExchanger>,
    /// Refreshes sessions.
    pub refresher: Arc<Refresher>,
    /// Revokes tokens, sessions, users and clients.
    pub revoker: Arc<Revoker>,
    /// Decides about the requests that a proxy asks about.
    pub gateway: Arc<Gateway<ServiceValidator>>,
    /// Manages users.
    pub users: Arc<Users>,
    /// Manages clients.
    pub clients: Arc<Clients>,
    /// Lists sessions.
    pub user_sessions: Arc<Sessions>,
    /// The audit trail.
    pub trail: AuditTrail,
    /// The audit rows of failed attempts.
    pub attempts: Arc<AttemptLog>,
    /// How long the audit trail is kept.
    pub audit_retention: Duration,
    /// How far behind data of Redis count as a restored backup.
    pub redis_backup_age: Duration,
    /// Whether new hashes are peppered.
    pub pepper: bool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Puts the service together over opened stores. Checks the master key before anything is written, then creates what a
    /// first start needs: keys, and the client `default`.
    pub async fn build(config: &Config, stores: Stores) -> Result<Arc<Self>, StartError> {
        let fresh = stores.durable.load_keys().await?.checks.is_empty();
        let (made_by, entropy) = (config.clone(), Arc::clone(&stores.entropy));
        // A task of its own: the program of keys.master_key_command may take some seconds.
        let master = tokio::task::spawn_blocking(move || master_key::load_or_create(&made_by, fresh, &*entropy));
        let master = Arc::new(master.await.map_err(Error::internal)??);
        Self::assemble(config, stores, master, Pool::start).await
    }

    /// Like [`App::build`], with a master keyring that was loaded elsewhere. `start_hashing` makes the pool that hashes
    /// passwords.
    #[expect(
        clippy::too_many_lines,
        reason = "a list without branches: each object, in the order in which it is needed"
    )]
    pub async fn assemble(
        config: &Config,
        stores: Stores,
        master: Arc<MasterKeyring>,
        start_hashing: StartHashing,
    ) -> Result<Arc<Self>, StartError> {
        let keys = Arc::new(open_keys(config, &stores, master.clone()).await?);
        ensure_default_client(&stores).await?;
        stores.durable.note_session_life(config.tokens.session_ttl).await?;

        let Stores {
            durable,
            sessions,
            announcements,
            clock,
            entropy,
            ..
        } = &stores;
        let token_config = Arc::new(config.tokens.clone());
        let feed = Feed::new(clock.clone(), entropy.clone(), config.revocation.clone());
        let publisher = Arc::new(RevocationPublisher::new(
            feed.clone(),
            sessions.clone(),
            announcements.clone(),
        ));
        let hashing = Arc::new(start_hashing(
            &config.password,
            peppers(&keys, config.password.pepper),
            clock.clone(),
            entropy.clone(),
        )?);
        let throttle = Arc::new(Throttle::new(
            stores.throttles.clone(),
            stores.local_throttles.clone(),
            master.clone(),
            clock.clone(),
            throttle_config(config),
        ));

        let trust = ReplicaTrust {
            keys: keys.clone(),
            feed: feed.clone(),
        };
        let validator_config = ValidatorConfig {
            issuer: config.tokens.issuer.clone(),
            leeway: config.tokens.leeway,
            cache_bytes: TOKEN_CACHE_BYTES,
            answer_ttl: config.revocation.reconcile_interval,
        };
        let validator = Arc::new(ServiceValidator::new(
            TokenValidator::new(trust, clock.clone(), validator_config),
            durable.clone(),
            clock.clone(),
        ));
        let authenticator = Arc::new(BearerAuthenticator {
            validator: validator.clone(),
            config: token_config.clone(),
        });
        let audit = AuditWriter::new(durable.clone(), clock.clone(), entropy.clone());
        let attempts = Arc::new(AttemptLog::new(
            durable.clone(),
            master.clone(),
            clock.clone(),
            entropy.clone(),
            config.telemetry.audit_failures_per_minute,
        ));
        let signer = Arc::new(AccessTokenSigner {
            keys: keys.clone(),
            feed: feed.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            config: token_config.clone(),
        });
        let refresh_tokens = RefreshTokenCodec::new(keys.clone());
        let recorder = Arc::new(RevocationRecorder {
            store: durable.clone(),
            sessions: sessions.clone(),
            publisher: publisher.clone(),
            feed: feed.clone(),
            leeway: config.tokens.leeway,
        });
        let session_starter = Arc::new(SessionStarter {
            users: durable.clone(),
            sessions: sessions.clone(),
            signer: signer.clone(),
            refresh_tokens: refresh_tokens.clone(),
            limit: SessionLimit {
                store: durable.clone(),
                recorder: recorder.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
                config: token_config.clone(),
            },
            audit: audit.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            config: token_config.clone(),
        });
        let password_issuer = Arc::new(PasswordIssuer {
            users: durable.clone(),
            hashing: hashing.clone(),
            throttle: throttle.clone(),
            sessions: session_starter,
            feed: feed.clone(),
            ignored_addresses: IgnoredAddresses::new(clock.clone()),
            attempts: attempts.clone(),
            config: token_config.clone(),
        });
        let client_secret_issuer = Arc::new(ClientSecretIssuer {
            clients: durable.clone(),
            feed: feed.clone(),
            throttle: throttle.clone(),
            signer: signer.clone(),
            audit: audit.clone(),
            attempts: attempts.clone(),
            config: token_config.clone(),
        });
        let token_exchanger = Arc::new(TokenExchanger {
            clients: durable.clone(),
            validator: validator.clone(),
            signer: signer.clone(),
            audit: audit.clone(),
            attempts: attempts.clone(),
            config: token_config.clone(),
        });
        let refresher = Arc::new(Refresher {
            users: durable.clone(),
            sessions: sessions.clone(),
            feed: feed.clone(),
            keys: keys.clone(),
            refresh_tokens: refresh_tokens.clone(),
            signer,
            reuse: ReuseHandler {
                recorder: recorder.clone(),
                audit: audit.clone(),
                clock: clock.clone(),
            },
            clock: clock.clone(),
            config: token_config,
        });
        let revoker = Arc::new(Revoker {
            recorder,
            store: durable.clone(),
            sessions: sessions.clone(),
            keys: keys.clone(),
            refresh_tokens,
            throttle: throttle.clone(),
            audit,
            policy: Policy {
                issuer: config.tokens.issuer.clone(),
                leeway: config.tokens.leeway,
            },
        });

        let gateway = Gateway::new(validator.clone(), clock.clone(), gateway_config(config)?);
        let trail = AuditTrail::new(durable.clone(), clock.clone(), entropy.clone());
        let users = Arc::new(Users {
            store: durable.clone(),
            hashing: hashing.clone(),
            throttle: throttle.clone(),
            trail: trail.clone(),
            attempts: attempts.clone(),
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
        let user_sessions = Arc::new(Sessions {
            live: sessions.clone(),
            durable: durable.clone(),
            throttle,
        });
        Ok(Arc::new(Self {
            keys,
            feed,
            publisher,
            hashing,
            validator,
            authenticator,
            password_issuer,
            client_secret_issuer,
            token_exchanger,
            refresher,
            revoker,
            gateway: Arc::new(gateway),
            users,
            clients,
            user_sessions,
            trail,
            attempts,
            audit_retention: config.telemetry.audit_retention,
            redis_backup_age: config.storage.redis_backup_age,
            pepper: config.password.pepper,
            stores,
        }))
    }
}

async fn open_keys(config: &Config, stores: &Stores, master: Arc<MasterKeyring>) -> Result<Keys> {
    let vault = KeyVault {
        store: stores.durable.clone(),
        master,
        clock: stores.clock.clone(),
        entropy: stores.entropy.clone(),
    };
    let keys = KeysConfig {
        algorithm: config.tokens.algorithm,
        rotation_period: config.keys.rotation_period,
        prepublish: config.keys.prepublish,
        jwks_max_age: config.keys.jwks_max_age,
        longest_access: MAX_ACCESS_TOKEN_TTL,
        longest_session: MAX_SESSION_TTL,
        pepper: config.password.pepper,
    };
    match stores.access {
        Access::Serve => Keys::start(vault, keys).await,
        // A command is not a replica: it signs nothing, no caller waits for it, and its configuration may differ.
        Access::Migrate | Access::Subcommand => Keys::open(vault, keys).await,
    }
}

/// The peppers of the key ring, for the hashing pool.
pub(super) fn peppers(keys: &Keys, in_use: bool) -> Peppers {
    let ring = keys.current();
    Peppers::new(ring.peppers().map(|(id, pepper)| (id, pepper.clone())), in_use)
}

/// Creates the client that an empty `client_id` means, at the first start.
async fn ensure_default_client(stores: &Stores) -> Result<()> {
    let now = stores.clock.now();
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
    let event = AuditEvent::new(
        AuditType::ClientCreated,
        &client.id,
        &Origin::system(),
        now,
        &*stores.entropy,
    );
    let event = event.with_client(&client.id);
    match stores.durable.create_client(&client, None, &event).await {
        // It exists already; of several replicas that start at once, one creates it.
        Err(error) if error.kind == ErrorKind::ClientExists => Ok(()),
        done => done,
    }
}

fn throttle_config(config: &Config) -> ThrottleConfig {
    let rate = |rate: &config::Rate| Rate {
        count: rate.count,
        per: rate.per,
    };
    ThrottleConfig {
        enabled: config.throttle.enabled,
        account_source: rate(&config.throttle.account_source),
        account: rate(&config.throttle.account),
        source: rate(&config.throttle.source),
        global: config.throttle.global.as_ref().map(rate),
        registration: rate(&config.throttle.registration),
        registration_global: rate(&config.throttle.registration_global),
        login: rate(&config.throttle.login),
        own_account: rate(&config.throttle.own_account),
        // As many attempts may wait as may wait for a hash.
        waiting: config.password.queue,
    }
}
