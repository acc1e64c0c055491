//! PostgreSQL: one server for a test process, a database for each test; servers of their own for tests that break them.

use std::net::ToSocketAddrs as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::guard::{self, Ending};
use super::process::{Process, send};
use super::{poll, ports};

const PATIENCE: Duration = Duration::from_secs(30);

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
    /// Starts a server with these settings over those of a fresh `initdb`.
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
        panic!("postgres does not start; it said:\n{}", server.log());
    }

    /// The server of this test process.
    fn shared() -> &'static Self {
        // No power is cut in these tests: what reached the kernel is safe, and `CREATE DATABASE` is ten times as fast.
        static SHARED: LazyLock<Postgres> =
            LazyLock::new(|| Postgres::start(&[("fsync", "off"), ("full_page_writes", "off")]));
        &SHARED
    }

    /// `127.0.0.1` and its port: what a [`super::Proxy`] stands before.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A fresh database on it.
    pub async fn database(&self) -> Database {
        Database::create(&format!("postgres://postgres@127.0.0.1:{}/postgres", self.port), false).await
    }

    /// Ends it: SIGTERM waits for the clients, SIGINT throws them out, SIGQUIT is a crash.
    pub fn stop(&mut self, how: Signal) {
        if let Some(mut process) = self.process.take() {
            process.signal(how);
            process.wait(PATIENCE);
        }
    }

    /// Starts it again, on the same port and files.
    pub fn launch(&mut self) {
        assert!(
            self.try_launch(),
            "postgres does not start again; it said:\n{}",
            self.log()
        );
    }

    /// Stops the postmaster and all its backends in their tracks (SIGSTOP): the port still accepts.
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

    /// What the server logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// How many statements it was given; it must run with `log_statement = all`.
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

    fn pid(&self) -> u32 {
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
        let ready = poll(PATIENCE, || {
            // What pg_ctl waits for, too. Somebody else's server may answer on the port; this file is of ours.
            let state = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
            let mut lines = state.lines();
            let ready = lines.next() == Some(&own) && lines.nth(6).is_some_and(|status| status.trim_end() == "ready");
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

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    url: String,
    maintenance: String,
    name: String,
    drop: bool,
}

impl Database {
    /// A fresh database on the server of `COUNTERSIGN_TEST_DATABASE_URL`, else on that of this test process.
    pub async fn fresh() -> Self {
        match std::env::var_os("COUNTERSIGN_TEST_DATABASE_URL") {
            Some(url) => Self::create(url.to_str().expect("the URL is text"), true).await,
            None => Postgres::shared().database().await,
        }
    }

    async fn create(maintenance: &str, drop: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "cs_test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        execute(maintenance, &format!("CREATE DATABASE {name}")).await;
        Self {
            url: with_path(maintenance, &name),
            maintenance: maintenance.to_owned(),
            name,
            drop,
        }
    }

    /// Where it is: `postgres://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is by way of another address: a proxy's.
    pub fn url_through(&self, address: std::net::SocketAddr) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let credentials = authority
            .rsplit_once('@')
            .map_or(String::new(), |(user, _)| format!("{user}@"));
        format!("{scheme}://{credentials}{address}/{path}")
    }

    /// The host and port of its server.
    pub fn host(&self) -> (String, u16) {
        let options: PgConnectOptions = self.url.parse().expect("a URL");
        (options.get_host().to_owned(), options.get_port())
    }

    /// Its server's address: what a [`super::Proxy`] stands before.
    pub fn address(&self) -> std::net::SocketAddr {
        let mut addresses = self.host().to_socket_addrs().expect("its host has an address");
        addresses.next().expect("an address")
    }

    /// Who connects to it.
    pub fn user(&self) -> String {
        let options: PgConnectOptions = self.url.parse().expect("a URL");
        options.get_username().to_owned()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        execute(&self.url, sql).await;
    }

    /// The rows of a query, as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows = with(&self.url, async |connection| {
            sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
        })
        .await;
        rows.iter().map(texts).collect()
    }

    /// The first column of the first row, as text; empty for NULL.
    pub async fn scalar(&self, sql: &str) -> String {
        let mut rows = self.rows(sql).await;
        assert!(!rows.is_empty(), "no row: {sql}");
        rows.swap_remove(0).swap_remove(0).unwrap_or_default()
    }

    /// A connection of the test's own, for a transaction that is to be held open.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url)
            .await
            .expect("the test database answers")
    }

    /// Everything in it as SQL: what somebody finds who steals a dump.
    pub fn dump(&self) -> Vec<u8> {
        run(Command::new(programs().join("pg_dump")).args(["--inserts", "--dbname", &self.url]))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !self.drop {
            return;
        }
        let (maintenance, sql) = (
            self.maintenance.clone(),
            format!("DROP DATABASE {} WITH (FORCE)", self.name),
        );
        // Whatever runtime the test has must not be blocked, and it may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(execute(&maintenance, &sql));
        });
        let _ = dropped.join();
    }
}

async fn execute(url: &str, sql: &str) {
    with(url, async |connection| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await
    })
    .await;
}

async fn with<T>(url: &str, work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> T {
    let mut connection = PgConnection::connect(url).await.expect("the test database answers");
    let done = work(&mut connection).await.expect("the test's own SQL is right");
    let _ = connection.close().await;
    done
}

fn texts(row: &PgRow) -> Vec<Option<String>> {
    // The simple protocol sends every type as text.
    (0..row.len())
        .map(|column| row.try_get_unchecked(column).expect("text"))
        .collect()
}

fn with_path(url: &str, path: &str) -> String {
    let (head, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(head, query)| (head, format!("?{query}")));
    let authority = head.find("://").expect("a URL") + 3;
    let end = head[authority..]
        .find('/')
        .map_or(head.len(), |slash| authority + slash);
    format!("{}/{path}{query}", &head[..end])
}

/// The folder of the server's programs: Debian keeps each version's in one off the `PATH`. The newest wins.
fn programs() -> PathBuf {
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

/// PostgreSQL refuses to run as root: it then runs as the user that its package made.
static OTHER_USER: LazyLock<Option<User>> = LazyLock::new(|| {
    Uid::effective().is_root().then(|| {
        User::from_name("postgres")
            .ok()
            .flatten()
            .expect("the user `postgres` exists")
    })
});

/// A command that runs as a user whom servers accept that refuse to run as root.
pub(super) fn as_owner(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C").env_remove("PGDATA");
    if let Some(user) = &*OTHER_USER {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn run(command: &mut Command) -> Vec<u8> {
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
