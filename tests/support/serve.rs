//! The compiled `countersign`, run as users run it: `serve` in the background, every other subcommand to its end.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::cli::{Cli, Finished};
use super::guard::{self, Ending};
use super::process::Process;
use super::{Database, KeySpace, poll};

/// Longer than a start takes on a machine that compiles something else meanwhile.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The build under test.
const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// The master key of clustered tests: 32 bytes in base64.
pub const MASTER_KEY: &str = "Y291bnRlcnNpZ24tdGVzdC1tYXN0ZXIta2V5LTAwMDE=";

/// Where a deployment stores its data, and its configuration: the same for all its replicas and subcommands.
#[derive(Clone, Debug)]
pub struct Storage {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    /// The user and group of every process; none for those of the test.
    user: Option<(u32, u32)>,
}

impl Storage {
    /// One SQLite file in its own folder.
    pub fn embedded() -> Self {
        let folder = guard::scratch("data");
        let data = folder.join("countersign-data").display().to_string();
        Self {
            folder,
            environment: Vec::new(),
            binary: BINARY.into(),
            user: None,
        }
        .set("storage.data_dir", &data)
    }

    /// Postgres and Redis at these addresses, with a Redis key prefix.
    pub fn clustered(database_url: &str, redis_url: &str, redis_prefix: &str) -> Self {
        Self {
            folder: guard::scratch("replica"),
            environment: Vec::new(),
            binary: BINARY.into(),
            user: None,
        }
        .set("storage.database_url", database_url)
        .set("storage.redis_url", redis_url)
        .set("storage.redis_prefix", redis_prefix)
        .set("keys.master_key", MASTER_KEY)
    }

    /// A database and a key space on the shared servers.
    pub fn shared(database: &Database, keys: &KeySpace) -> Self {
        Self::clustered(database.url(), keys.url(), keys.prefix())
    }

    /// Sets a configuration key (`password.iterations`) for every process started from now on.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("COUNTERSIGN_{}", key.replace('.', "__").to_uppercase());
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Runs another build of the program from now on.
    #[must_use]
    pub fn with_binary(mut self, path: &str) -> Self {
        self.binary = path.into();
        self
    }

    /// Runs every process as this user and group from now on, which needs root.
    #[must_use]
    pub fn run_as(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Sets an environment variable for every process started from now on, for what is not a configuration key.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder of the embedded data.
    pub fn data(&self) -> PathBuf {
        self.folder.join("countersign-data")
    }

    /// A folder for the files of this deployment, outside the data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a replica and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start; the message has its output.
    pub fn serve(&self, flags: &[&str]) -> Countersign {
        self.try_serve(flags)
            .unwrap_or_else(|failed| panic!("serve: {}\n{}", failed.status, failed.stderr))
    }

    /// Starts a replica that listens on this address with both ports.
    pub fn serve_at(&self, listen: &str) -> Countersign {
        self.start(listen, &["--insecure"])
            .unwrap_or_else(|failed| panic!("serve: {}\n{}", failed.status, failed.stderr))
    }

    /// Starts a replica and waits until it answers or has refused to start.
    pub fn try_serve(&self, flags: &[&str]) -> Result<Countersign, Finished> {
        self.start("127.0.0.1:0", flags)
    }

    fn start(&self, listen: &str, flags: &[&str]) -> Result<Countersign, Finished> {
        let own = guard::scratch("serve");
        let (ready, log) = (own.join("ready.json"), own.join("log"));
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(&own, Some(uid), Some(gid)).unwrap();
        }
        let mut process = Process::spawn(
            self.command()
                .args(["serve", "--listen", listen, "--http-listen", listen, "--ready-file"])
                .arg(&ready)
                .args(flags),
            &log,
            Ending::Kill,
        );
        let started = poll(TIMEOUT, || match process.exited() {
            Some(status) => Some(Err(status)),
            None => serde_json::from_slice::<Value>(&std::fs::read(&ready).ok()?)
                .ok()
                .map(Ok),
        });
        match started {
            Some(Ok(ready_file)) => {
                let address = |name: &str| -> SocketAddr {
                    ready_file[name]
                        .as_str()
                        .and_then(|text| text.parse().ok())
                        .expect("the ready file names its addresses")
                };
                assert_eq!(ready_file["pid"], process.pid());
                Ok(Countersign {
                    grpc: address("grpc"),
                    http: address("http"),
                    process,
                })
            }
            Some(Err(status)) => Err(Finished {
                status,
                stdout: String::new(),
                stderr: process.log(),
            }),
            None => panic!(
                "serve does not answer after {TIMEOUT:?}; its output:\n{}",
                process.log()
            ),
        }
    }

    /// A subcommand that ends by itself.
    pub fn run(&self, words: &[&str]) -> Cli {
        let mut command = self.command();
        command.args(words);
        Cli::of(command)
    }

    /// The binary with this deployment's configuration, and no Countersign variables of the test's own environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command.current_dir(&self.folder).envs(self.environment.iter().cloned());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn is_ours(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("COUNTERSIGN_")
}

/// A running replica.
#[derive(Debug)]
pub struct Countersign {
    grpc: SocketAddr,
    http: SocketAddr,
    process: Process,
}

impl Countersign {
    /// Its gRPC address.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Its gRPC address, as a URL.
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Its address for JWKS, metrics and health, as a URL.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`; returns when it is gone.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Stops it (SIGTERM), and waits for its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(Duration::from_secs(30))
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }
}
