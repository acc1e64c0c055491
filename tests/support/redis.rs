//! Redis: one server for a test process and a key prefix for each test; separate servers for tests that break them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::guard::{self, Ending};
use super::process::{Process, find};
use super::{RedisCluster, poll, ports};

const TIMEOUT: Duration = Duration::from_mins(1);

/// The file of settings, if the server has one.
const FILE: &str = "redis.conf";

/// A server that this process started.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    options: Vec<String>,
}

impl Redis {
    /// Starts a server with these options (`--appendonly yes`). Without options it keeps nothing on disk.
    pub fn start(options: &[&str]) -> Self {
        Self::start_in(guard::scratch("redis"), options)
    }

    /// Starts a server with a file of settings too, which Sentinels rewrite when they make it follow another master: it comes back
    /// as what it was.
    pub fn with_file(settings: &str, options: &[&str]) -> Self {
        let folder = guard::scratch("redis");
        std::fs::write(folder.join(FILE), settings).unwrap();
        Self::start_in(folder, options)
    }

    fn start_in(folder: PathBuf, options: &[&str]) -> Self {
        let mut server = Self {
            process: None,
            folder,
            port: 0,
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        for _ in 0..5 {
            server.port = ports::free();
            if server.try_launch() {
                return server;
            }
        }
        panic!("redis-server does not start; its log:\n{}", server.log());
    }

    /// `redis://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its address, for a [`super::Proxy`].
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Sends one command; returns the reply without its last newline.
    pub fn command(&self, words: &[&str]) -> String {
        command(&self.url(), words)
    }

    /// The number of commands executed for clients and in scripts, except those that ask for this number.
    pub fn commands(&self) -> u64 {
        let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
        let stats = self.command(&["INFO", "commandstats"]);
        stats
            .lines()
            .filter(|line| !line.starts_with("cmdstat_info:"))
            .filter_map(calls)
            .sum()
    }

    /// Whether it answers, and has loaded its data from disk.
    pub fn ready(&self) -> bool {
        try_command(&self.url(), &["PING"]).is_ok_and(|answer| answer == "PONG")
    }

    /// Kills it: unwritten data is lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same port and with its data on disk.
    pub fn launch(&mut self) {
        assert!(
            self.try_launch(),
            "redis-server does not start again; its log:\n{}",
            self.log()
        );
    }

    /// Starts it again so that it loads its data slowly, and does not wait for that.
    pub fn launch_slowly(&mut self) {
        self.options.extend(["--key-load-delay".to_owned(), "200".to_owned()]);
        self.process = Some(self.spawn());
        self.options.truncate(self.options.len() - 2);
    }

    /// Starts it again with no data on disk.
    pub fn launch_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.folder).unwrap();
        std::fs::create_dir(&self.folder).unwrap();
        self.launch();
    }

    /// Stops it (SIGSTOP): connections stay open, and no command is answered.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// The reverse of [`Redis::freeze`]: it now executes the commands that arrived meanwhile.
    pub fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its folder, with the append-only file and snapshots.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn signal(&mut self, signal: Signal) {
        self.process.as_mut().expect("redis runs").signal(signal);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("redis runs").pid()
    }

    fn spawn(&self) -> Process {
        let program =
            find("redis-server").expect("redis-server is not installed: tests/run does that, or says what to install");
        let file = self.folder.join(FILE);
        Process::spawn(
            Command::new(program)
                .current_dir(&self.folder)
                .args(file.is_file().then_some(&file))
                .args(["--port", &self.port.to_string()])
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
                .arg(&self.folder)
                .args(&self.options),
            &self.folder.join("log"),
            Ending::Kill,
        )
    }

    fn try_launch(&mut self) -> bool {
        self.kill();
        let mut process = self.spawn();
        let ready = poll(TIMEOUT, || {
            process.exited().map(|_| false).or_else(|| self.ready().then_some(true))
        });
        self.process = Some(process);
        ready == Some(true)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        guard::discard(&self.folder);
    }
}

/// The keys of one test on servers that other tests use as well.
#[derive(Debug)]
pub struct KeySpace {
    url: String,
    masters: Vec<String>,
    prefix: String,
}

impl KeySpace {
    /// A unique prefix on the server of `COUNTERSIGN_TEST_REDIS_URL`, or else on the server of this test process.
    pub fn fresh() -> Self {
        static SHARED: LazyLock<Redis> = LazyLock::new(|| Redis::start(&[]));
        let url = std::env::var_os("COUNTERSIGN_TEST_REDIS_URL")
            .map_or_else(|| SHARED.url(), |url| url.into_string().expect("the URL is text"));
        Self::of(url.clone(), vec![url])
    }

    /// A unique prefix on the three-master cluster of this test process.
    pub fn in_cluster() -> Self {
        static SHARED: LazyLock<RedisCluster> = LazyLock::new(|| RedisCluster::start(3, &[]));
        Self::of(SHARED.url(), SHARED.masters.iter().map(Redis::url).collect())
    }

    fn of(url: String, masters: Vec<String>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { url, masters, prefix }
    }

    /// The URL for Countersign: `redis://…`, `redis-cluster://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The value for `storage.redis_prefix`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Sends one command to every master; returns their replies.
    pub fn command(&self, words: &[&str]) -> Vec<String> {
        self.masters.iter().map(|master| command(master, words)).collect()
    }

    /// Sends one command to the master that has its keys.
    ///
    /// # Panics
    ///
    /// If there is no reply, or it is an error.
    pub fn at(&self, words: &[&str]) -> String {
        // `-c` follows redirections.
        cli(&self.masters[0], &["-c"], words).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// The keys of this test.
    pub fn keys(&self) -> Vec<String> {
        let found = self.command(&["KEYS", &format!("{}*", self.prefix)]);
        found.iter().flat_map(|keys| keys.lines()).map(str::to_owned).collect()
    }
}

impl Drop for KeySpace {
    fn drop(&mut self) {
        for master in &self.masters {
            for key in try_command(master, &["KEYS", &format!("{}*", self.prefix)])
                .unwrap_or_default()
                .lines()
            {
                let _ = try_command(master, &["UNLINK", key]);
            }
        }
    }
}

/// Sends one command to the server at `url`; returns the reply without its last newline, several lines for a list.
///
/// # Panics
///
/// If there is no reply, or it is an error.
pub fn command(url: &str, words: &[&str]) -> String {
    try_command(url, words).unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

/// Like [`command`], but returns a failure.
pub fn try_command(url: &str, words: &[&str]) -> Result<String, String> {
    cli(url, &[], words)
}

fn cli(url: &str, options: &[&str], words: &[&str]) -> Result<String, String> {
    // `-e`: an error of the server is an exit code, not a normal reply.
    let done = Command::new("redis-cli")
        .args(["-u", url, "--no-auth-warning", "--raw", "-e"])
        .args(options)
        .args(words)
        .output()
        .map_err(|e| format!("redis-cli does not start: {e}"))?;
    let said = String::from_utf8_lossy(if done.status.success() {
        &done.stdout
    } else {
        &done.stderr
    });
    let said = said.strip_suffix('\n').unwrap_or(&said).to_owned();
    if done.status.success() { Ok(said) } else { Err(said) }
}
