//! Three replicas on one Postgres and one Redis, each with its own proxies.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::deployment::{add_user, for_tests};
use super::serve::Storage;
use super::{Caller, Countersign, Database, Postgres, Proxy, Redis};

/// The number of replicas.
pub const REPLICAS: usize = 3;

/// Three replicas and their stores.
#[derive(Debug)]
pub struct Fleet {
    /// The replicas.
    pub replicas: Vec<Replica>,
    /// How to run a subcommand, with direct connections to the stores.
    pub storage: Storage,
    /// The database, reached directly.
    pub database: Database,
    /// Its server.
    pub postgres: Postgres,
    /// The server of the sessions.
    pub redis: Redis,
}

/// One replica, with a proxy before it and proxies between it and the stores.
#[derive(Debug)]
pub struct Replica {
    /// The address that callers use: the same after each restart.
    pub front: Proxy,
    /// The proxy to Postgres.
    pub to_postgres: Proxy,
    /// The proxy to Redis.
    pub to_redis: Proxy,
    storage: Storage,
    server: Option<Countersign>,
}

impl Fleet {
    /// Starts Redis with these options, Postgres, and three replicas with these settings; adds the user `ada`.
    pub async fn start(redis: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::on(Redis::start(redis), settings, true).await
    }

    /// The same without proxies to the stores: whatever a killed replica had sent has arrived.
    pub async fn direct(redis: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::on(Redis::start(redis), settings, false).await
    }

    async fn on(redis: Redis, settings: &[(&str, &str)], network: bool) -> Self {
        // Durable against killed processes, which is enough: data that reached the kernel is safe, and no power is
        // cut.
        let postgres = Postgres::start(&[
            ("fsync", "off"),
            ("full_page_writes", "off"),
            // Lets a test promote the server: a recovery that finds no more WAL to replay.
            ("restore_command", "false"),
        ]);
        let database = postgres.database().await;
        let storage = |database_url: &str, redis_url: &str| {
            // A busy machine is no fault. A test of time-outs sets shorter ones itself.
            let with_deadline =
                for_tests(Storage::clustered(database_url, redis_url, "cs")).set("storage.redis_timeout", "5s");
            settings
                .iter()
                .fold(with_deadline, |storage, (key, value)| storage.set(key, value))
        };
        let mut fleet = Self {
            replicas: Vec::new(),
            storage: storage(database.url(), &redis.url()),
            database,
            postgres,
            redis,
        };
        fleet.add_user("ada").await;
        for _ in 0..REPLICAS {
            let (to_postgres, to_redis) = (
                Proxy::start(fleet.postgres.address()).await,
                Proxy::start(fleet.redis.address()).await,
            );
            let own = if network {
                storage(
                    &fleet.database.url_through(to_postgres.address()),
                    &format!("redis://{}", to_redis.address()),
                )
            } else {
                fleet.storage.clone()
            };
            // The upstream does not exist yet.
            let front = Proxy::start(([127, 0, 0, 1], 1).into()).await;
            let mut replica = Replica {
                front,
                to_postgres,
                to_redis,
                storage: own,
                server: None,
            };
            replica.launch().await;
            fleet.replicas.push(replica);
        }
        fleet
    }

    /// Adds a user and returns the id. Runs in a blocking thread, so that the proxies' tasks go on.
    pub async fn add_user(&self, name: &str) -> String {
        let (storage, name) = (self.storage.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || add_user(&storage, &name, &[]))
            .await
            .unwrap()
    }

    /// Runs a subcommand that must succeed.
    pub async fn run(&self, words: &'static [&'static str]) {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || drop(storage.run(words).succeed()))
            .await
            .unwrap();
    }

    /// A caller of each replica.
    pub fn callers(&self) -> Vec<Caller> {
        self.replicas.iter().map(Replica::caller).collect()
    }

    /// Asserts that no running replica has panicked.
    pub fn assert_no_panics(&self) {
        for server in self.replicas.iter().filter_map(|replica| replica.server.as_ref()) {
            assert!(!server.log().contains("panicked"), "{}", server.log());
        }
    }
}

impl Replica {
    /// A caller of the replica, which stays usable after a restart.
    pub fn caller(&self) -> Caller {
        Caller::at(&format!("http://{}", self.front.address()))
    }

    /// The process.
    ///
    /// # Panics
    ///
    /// If it does not run.
    /// If it does not run.
    pub fn server(&self) -> &Countersign {
        self.server.as_ref().expect("the replica runs")
    }

    /// A caller that connects directly, not through the proxy.
    pub fn direct(&self) -> Caller {
        Caller::of(self.server())
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Sends the process a signal.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(server) = &mut self.server {
            server.signal(signal);
        }
    }

    /// Starts the replica with one more setting.
    pub async fn launch_with(&mut self, key: &str, value: &str) {
        self.storage = self.storage.clone().set(key, value);
        self.launch().await;
    }

    /// Starts the replica, also after it ended; returns when it answers.
    pub async fn launch(&mut self) {
        self.kill();
        let storage = self.storage.clone();
        let server = tokio::task::spawn_blocking(move || storage.serve(&[])).await.unwrap();
        self.front.redirect(server.grpc());
        self.server = Some(server);
    }

    /// Whether `/readyz` reports that the replica is ready.
    pub async fn ready(&self) -> bool {
        let ask = async {
            let address = self.server().http_url();
            let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.ok()?;
            stream
                .write_all(b"GET /readyz HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n")
                .await
                .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer.starts_with("HTTP/1.1 200"))
        };
        timeout(Duration::from_secs(5), ask).await == Ok(Some(true))
    }
}
