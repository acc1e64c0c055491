//! The stores with their population, and services on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::client::Client;
use countersign::clock::{Clock as _, SystemClock};
use countersign::keys::signing::SigningKey;
use countersign::keys::verify::unverified_claims;
use countersign::model::{Algorithm, Claims, TokenEpochs, TokenId, new_uuid};
use countersign::secret::SystemEntropy;

use crate::callers::{SCOPES, add_caller, caller, import_key, patient};
use crate::cores;
use crate::figures::from_environment;
use crate::generator::{Target, Transport};
use crate::population::{self, Population};
use crate::processor::StoreProcesses;
use crate::support::deployment::add_user;
use crate::support::serve::Storage;
use crate::support::{Countersign, Database, PASSWORD, Postgres, Redis, eventually};

/// The user who has as many sessions as a user may have.
pub const CROWDED: &str = "crowded";
/// The limit of sessions of a user, as configured by default.
pub const SESSION_LIMIT: usize = 50;

pub struct Deployment {
    pub postgres: Postgres,
    pub redis: Redis,
    pub database: Database,
    pub storage: Storage,
    pub population: Population,
    /// The id of the user with many sessions.
    pub crowded: String,
    pub revocations: u32,
    /// The resident memory of a service before there were revocations, in KiB.
    pub resident_without_revocations: u64,
    secret: String,
    key: Arc<SigningKey>,
    claims: Claims,
}

/// A running service, and what its callers send.
pub struct Service {
    pub process: Countersign,
    pub client: Client,
    bearer: String,
}

impl Deployment {
    /// The stores with everything but the population: keys, clients, revocations, and the user with many sessions.
    pub async fn start() -> Self {
        let (postgres, redis) = cores::anywhere(|| {
            // No power is cut here, and a commit costs the processor the same without the wait for the disk.
            let postgres = Postgres::start(&[("fsync", "off"), ("shared_buffers", "1GB"), ("max_wal_size", "1GB")]);
            // As in deploy/compose.yaml.
            (postgres, Redis::start(&["--hash-max-listpack-value", "256"]))
        });
        let database = postgres.database().await;
        let storage = patient(Storage::clustered(database.url(), &redis.url(), "cs"));
        add_user(&storage, "ada", &["--email", "ada@example.org", "--role", "editor"]);
        let crowded = add_user(&storage, CROWDED, &["--role", "editor"]);
        let key = import_key(&storage, Algorithm::EdDsa);
        let (_, secret) = add_caller(&storage, &scopes());
        let server = cores::on_server_core(|| storage.serve(&[]));
        let client = caller(&server, ("bench".to_owned(), secret.clone()), &scopes(), None);
        let session = client.log_in("ada", PASSWORD).await.unwrap();
        let claims = unverified_claims(&session.tokens().access_token).unwrap();
        for _ in 0..SESSION_LIMIT {
            client.log_in(CROWDED, PASSWORD).await.unwrap();
        }
        assert!(server.stop().success());
        let server = storage.serve(&[]);
        let resident_without_revocations = server.resident_kib();
        assert!(server.stop().success());

        let revocations = from_environment("GROWTH_REVOCATIONS", 1_000_000);
        let began = Instant::now();
        population::add_clients(&database).await;
        population::add_revocations(&database, revocations).await;
        eprintln!("{revocations} revocations added in {:.0?}", began.elapsed());
        Self {
            population: Population::none(&database).await,
            postgres,
            redis,
            database,
            storage,
            crowded,
            revocations,
            resident_without_revocations,
            secret,
            key,
            claims,
        }
    }

    /// Adds users and sessions up to this number.
    pub async fn grow(&mut self, size: u32) {
        let began = Instant::now();
        self.population.grow(size, &self.database, &self.redis).await;
        eprintln!("{size} users and sessions after {:.0?}", began.elapsed());
    }

    /// Starts a service.
    pub fn serve(&self) -> Countersign {
        cores::on_server_core(|| self.storage.serve(&[]))
    }

    /// Starts a service, and logs in as its caller.
    pub async fn serve_calls(&self) -> Service {
        let process = self.serve();
        let credentials = ("bench".to_owned(), self.secret.clone());
        let client = caller(&process, credentials, &scopes(), None);
        let token = eventually("the service issues a token", Duration::from_mins(1), async || {
            client.own_token().await.ok().flatten()
        });
        Service {
            bearer: format!("Bearer {}", token.await.expose()),
            client,
            process,
        }
    }

    pub fn stores(&self) -> StoreProcesses {
        StoreProcesses::of(&self.postgres, &self.redis)
    }

    /// A new access token of a user.
    pub fn access_token(&self, n: u32) -> String {
        let now = SystemClock::new().now();
        let claims = Claims {
            sub: self.population.user(n).to_string(),
            sid: Some(self.population.session(n)),
            client_id: Population::client(n),
            jti: TokenId(new_uuid(now, &SystemEntropy)),
            iat: now.secs(),
            exp: now.secs() + 3600,
            epo: TokenEpochs {
                epochs: self.claims.epo.epochs,
                client_id: Population::client(n),
            },
            ..self.claims.clone()
        };
        self.key.sign(&claims).unwrap()
    }

    /// Bytes of write-ahead log so far.
    pub async fn wal(&self) -> f64 {
        let written = self.database.scalar("SELECT pg_current_wal_insert_lsn() - '0/0'").await;
        written.parse().unwrap()
    }
}

impl Service {
    pub fn target(&self, path: &'static str) -> Target {
        Target {
            transport: Transport::Tcp,
            address: self.process.grpc(),
            path,
            bearer: self.bearer.clone(),
            pid: self.process.pid(),
            alone: false,
        }
    }
}

fn scopes() -> Vec<&'static str> {
    [SCOPES, &["audit"]].concat()
}
