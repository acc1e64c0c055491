//! `PgBouncer` in transaction mode: successive transactions of one client connection may run on different server
//! connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::guard::{self, Ending};
use super::process::{Process, find};
use super::{Database, poll, ports, postgres};

/// A pooler before one server, for every database on it.
#[derive(Debug)]
pub struct Pooler {
    process: Process,
    address: SocketAddr,
    folder: PathBuf,
    file: PathBuf,
}

impl Pooler {
    /// The pooler of this test process, before the server of its databases.
    pub fn shared(database: &Database) -> &'static Self {
        static SHARED: LazyLock<parking_lot::Mutex<Option<&'static Pooler>>> = LazyLock::new(Default::default);
        let mut shared = SHARED.lock();
        shared.get_or_insert_with(|| Box::leak(Box::new(Self::start(database))))
    }

    /// Starts a pooler before the server of this database, with two server connections for all clients: code that relies on
    /// getting the same one again fails.
    pub fn start(database: &Database) -> Self {
        Self::with_size(database, 2)
    }

    /// Starts a pooler with this many server connections.
    pub fn with_size(database: &Database, size: u32) -> Self {
        for _ in 0..5 {
            if let Some(pooler) = Self::try_start(database, size) {
                return pooler;
            }
        }
        panic!("pgbouncer does not start");
    }

    /// The address to connect to, for [`Database::url_through`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it lead to another server, as an operator does after a promotion: connections to the old one are cut when their
    /// transaction ends.
    pub fn switch(&mut self, to: SocketAddr) {
        let settings = std::fs::read_to_string(&self.file).expect("its configuration can be read");
        let line = settings
            .lines()
            .find(|line| line.starts_with("* = "))
            .expect("it names a server");
        let user = line.split_once("user=").expect("it names a user").1;
        let new = format!("* = host={} port={} user={user}", to.ip(), to.port());
        std::fs::write(&self.file, settings.replace(line, &new)).expect("its configuration can be written");
        // Reloads the configuration.
        self.process.signal(Signal::SIGHUP);
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn try_start(database: &Database, size: u32) -> Option<Self> {
        let folder = guard::scratch("pooler");
        let (host, port) = database.host();
        let own = ports::free();
        let settings = format!(
            "[databases]\n* = host={host} port={port} user={user}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {size}\nmax_client_conn = 2000\nmax_db_connections = 0\n\
             server_login_retry = 1\n",
            user = database.user(),
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("the temporary folder can be written");
        let process = spawn(&folder, &file);
        let address = SocketAddr::from(([127, 0, 0, 1], own));
        let mut pooler = Self {
            process,
            address,
            folder,
            file,
        };
        pooler.is_up().then_some(pooler)
    }

    /// `kill -9`: the connections of its clients and to the server end.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, at its address.
    pub fn launch(&mut self) {
        self.process = spawn(&self.folder, &self.file);
        assert!(self.is_up(), "pgbouncer does not start again:\n{}", self.log());
    }

    fn is_up(&mut self) -> bool {
        let (process, address) = (&mut self.process, self.address);
        let up = poll(Duration::from_secs(10), || {
            let listens = std::net::TcpStream::connect(address).is_ok();
            process.exited().map(|_| false).or(listens.then_some(true))
        });
        up == Some(true)
    }
}

fn spawn(folder: &Path, file: &Path) -> Process {
    let mut command = postgres::as_owner(&program(), folder);
    Process::spawn(command.arg(file), &folder.join("log"), Ending::Kill)
}

/// Debian installs it in a folder that only root has in its PATH.
fn program() -> PathBuf {
    let file = Path::new("/usr/sbin/pgbouncer");
    if file.is_file() {
        Some(file.to_owned())
    } else {
        find("pgbouncer")
    }
    .expect("PgBouncer is not installed: tests/run does that, or says what to install")
}
