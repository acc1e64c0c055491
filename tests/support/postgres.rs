//! PostgreSQL: one server for a test process and a database for each test; separate servers for tests that break
//! them.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use super::guard::{self, Ending};
use super::process::{Process, send};
use super::{Database, poll, ports};

mod standbys;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A server that this process started.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    frozen: Vec<u32>,
}

impl Postgres {
    /// Starts a server with these settings on top of those of a fresh `initdb`.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let programs = programs();
        let folder = guard::scratch("pg");
        if let Some(user) = &*OTHER_USER {
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        run(as_owner(&programs.join("initdb"), &folder)
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(folder.join("data")));
        let mut lines = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nmax_connections = 400\n",
            folder.display()
        );
        for (name, value) in settings {
            lines.push_str(name);
            lines.push_str(" = '");
            lines.push_str(value);
            lines.push_str("'\n");
        }
        let configuration = folder.join("data/postgresql.conf");
        let written = std::fs::read_to_string(&configuration).unwrap();
        std::fs::write(&configuration, written + &lines).unwrap();

        let mut server = Self {
            process: None,
            programs,
            folder,
            port: 0,
            frozen: Vec::new(),
        };
        for _ in 0..5 {
            server.port = ports::free();
            if server.try_launch() {
                return server;
            }
        }
        panic!("postgres does not start; its log:\n{}", server.log());
    }

    /// The server of this test process.
    pub(super) fn shared() -> &'static Self {
        // No power is cut in these tests, so data that reached the kernel is safe, and without fsync `CREATE
        // DATABASE` is ten times as fast.
        static SHARED: LazyLock<Postgres> =
            LazyLock::new(|| Postgres::start(&[("fsync", "off"), ("full_page_writes", "off")]));
        &SHARED
    }

    /// Its address, for a [`super::Proxy`].
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A fresh database on it.
    pub async fn database(&self) -> Database {
        Database::create(&format!("postgres://postgres@127.0.0.1:{}/postgres", self.port), false).await
    }

    /// Runs SQL as the superuser, and returns the values of the result: rows in lines, columns separated by `|`.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn sql(&self, text: &str) -> String {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        let answer = run(Command::new(self.programs.join("psql")).args(["-X", "-q", "-tA", "-d", &url, "-c", text]));
        String::from_utf8_lossy(&answer).trim_end().to_owned()
    }

    /// Changes a setting of the running server.
    pub fn set(&self, name: &str, value: &str) {
        self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql("SELECT pg_reload_conf()");
    }

    /// Stops it: SIGTERM waits for the clients, SIGINT disconnects them, SIGQUIT is a crash.
    pub fn stop(&mut self, how: Signal) {
        if let Some(mut process) = self.process.take() {
            process.signal(how);
            process.wait(TIMEOUT);
        }
    }

    /// `kill -9` of all its processes: unwritten data is lost.
    pub fn kill(&mut self) {
        let backends = children(self.pid());
        guard::forget(&self.frozen);
        self.frozen.clear();
        self.stop(Signal::SIGKILL);
        for backend in backends {
            send(backend, Signal::SIGKILL);
        }
    }

    /// Starts it again, on the same port and files.
    pub fn launch(&mut self) {
        assert!(
            self.try_launch(),
            "postgres does not start again; its log:\n{}",
            self.log()
        );
    }

    /// Stops the postmaster and all its backends (SIGSTOP): the port still accepts connections.
    pub fn freeze(&mut self) {
        let postmaster = self.pid();
        send(postmaster, Signal::SIGSTOP);
        self.frozen = children(postmaster);
        for &backend in &self.frozen {
            // A stopped backend would not notice that its postmaster is gone.
            guard::watch(backend, Ending::Kill);
            send(backend, Signal::SIGSTOP);
        }
    }

    /// The reverse of [`Postgres::freeze`].
    pub fn thaw(&mut self) {
        for &process in self.frozen.iter().chain([&self.pid()]) {
            send(process, Signal::SIGCONT);
        }
        guard::forget(&self.frozen);
        self.frozen.clear();
    }

    /// The log of the server.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The number of statements it was sent; it must run with `log_statement = all`.
    pub fn statements(&self) -> u64 {
        let log = self.log();
        let given = log
            .lines()
            .filter(|line| line.contains("LOG:  execute") || line.contains("LOG:  statement:"));
        u64::try_from(given.count()).unwrap_or(u64::MAX)
    }

    /// The folder with the log and, below `data`, the cluster.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process id of the postmaster, the parent of all its processes.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("postgres runs").pid()
    }

    fn try_launch(&mut self) -> bool {
        let mut process = Process::spawn(
            as_owner(&self.programs.join("postgres"), &self.folder)
                .arg("-D")
                .arg(self.folder.join("data"))
                .args(["-p", &self.port.to_string()]),
            &self.folder.join("log"),
            Ending::Quit,
        );
        let own = process.pid().to_string();
        let ready = poll(TIMEOUT, || {
            // pg_ctl waits for this file too. Another server may answer on the port, but this file is our server's.
            let state = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
            let mut lines = state.lines();
            let ready = lines.next() == Some(&own)
                && lines
                    .nth(6)
                    .is_some_and(|status| ["ready", "standby"].contains(&status.trim_end()));
            process.exited().map(|_| false).or(ready.then_some(true))
        });
        self.process = Some(process);
        ready == Some(true)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.thaw();
        }
        self.process = None;
        guard::discard(&self.folder);
    }
}

/// The folder of the server's programs: Debian keeps those of each version in a folder outside the `PATH`. The newest
/// wins, unless `COUNTERSIGN_TEST_POSTGRES` names a folder.
pub fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("COUNTERSIGN_TEST_POSTGRES") {
        return folder.into();
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort_by_key(|folder| {
        let version = folder
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str()?.parse().ok());
        std::cmp::Reverse(version.unwrap_or(0_u32))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .chain(std::env::split_paths(&path))
        .find(|folder| {
            ["initdb", "postgres", "pg_dump"]
                .iter()
                .all(|program| folder.join(program).is_file())
        })
        .expect("PostgreSQL is not installed: tests/run does that, or says what to install")
}

/// PostgreSQL refuses to run as root, and then runs as the user that its package created.
static OTHER_USER: LazyLock<Option<User>> = LazyLock::new(|| {
    Uid::effective().is_root().then(|| {
        User::from_name("postgres")
            .ok()
            .flatten()
            .expect("the user `postgres` exists")
    })
});

/// A command that runs as a user that such servers accept.
pub(super) fn as_owner(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C").env_remove("PGDATA");
    if let Some(user) = &*OTHER_USER {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

pub(super) fn run(command: &mut Command) -> Vec<u8> {
    let done = command
        .output()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", command.get_program().display()));
    assert!(
        done.status.success(),
        "{}: {}\n{}",
        command.get_program().display(),
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    done.stdout
}

fn children(parent: u32) -> Vec<u32> {
    let listed = run(Command::new("ps").args(["-A", "-o", "ppid=,pid="]));
    String::from_utf8_lossy(&listed)
        .lines()
        .filter_map(|line| {
            let mut ids = line.split_whitespace().map_while(|id| id.parse::<u32>().ok());
            (ids.next()? == parent).then(|| ids.next())?
        })
        .collect()
}
