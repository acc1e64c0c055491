//! The database of a data folder: it opens the connections and runs closures on their threads.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, Params, Row, TransactionBehavior};
use tracing::Instrument as _;

use super::folder;
use super::time::StoreTime;
use super::worker::Worker;
use crate::clock::{Clock, UnixMillis};
use crate::model::{Error, ErrorKind, Result};
use crate::spans::SPANS;
use crate::store::durable::KnownClients;
use crate::store::migrate::{self, Migration, SchemaState};

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: include_str!("../../../migrations/sqlite/0001_durable.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("../../../migrations/sqlite/0002_sessions.sql"),
    },
    Migration {
        version: 3,
        sql: include_str!("../../../migrations/sqlite/0003_master_keys_of_replicas.sql"),
    },
    Migration {
        version: 4,
        sql: include_str!("../../../migrations/sqlite/0004_clients_and_keys.sql"),
    },
];

/// Marks the file as one of this program, in its header: "CSGN".
const APPLICATION_ID: i32 = 0x4353_474e;

/// The number of connections that only read. They see every answered write, and never wait for the disk.
const READERS: usize = 2;

/// The longest wait for an answer: the queue, a transaction of another process and the disk together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for a transaction of another process (`countersign user add`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The purpose for which a data folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To serve. One process at a time can serve a folder.
    Serve,
    /// For a subcommand, which may run while another process serves the folder.
    Subcommand,
}

/// The database of a data folder: users, clients, keys, revocations, the audit trail and live sessions. Cheap to clone; the
/// last clone closes it.
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

/// Dropped in the order of the fields: the threads end before the lock on the folder is released.
#[derive(Debug)]
struct Inner {
    writer: Worker,
    readers: Vec<Worker>,
    next_reader: AtomicUsize,
    time: StoreTime,
    /// The clients that refreshes have read.
    known_clients: KnownClients,
    _lock: Option<File>,
}

impl Database {
    /// Whether `folder` has a database.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        folder::has_database(folder)
    }

    /// Checks that this process can use `folder` and its files. Changes nothing; a folder that does not exist is right.
    pub fn examine_folder(folder: &Path) -> Result<()> {
        folder::examine(folder)
    }

    /// Opens the database in `folder`, creates it if it is absent, and brings its schema up to date. Blocks.
    ///
    /// `STORE_UNAVAILABLE` if the folder cannot be used or another process serves it.
    pub fn open(folder: &Path, mode: Mode, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = folder::prepare(folder)?;
        let lock = match mode {
            Mode::Serve => Some(folder::lock(folder)?),
            Mode::Subcommand => None,
        };
        let mut connection = connect(&path)?;
        migrate(&mut connection)?;
        let time = StoreTime::new(clock);
        let readers = (0..READERS)
            .map(|_| {
                let reader = connect(&path)?;
                reader.pragma_update(None, "query_only", true)?;
                Worker::reader(reader, time.clone())
            })
            .collect::<Result<_>>()?;
        Ok(Self(Arc::new(Inner {
            writer: Worker::writer(connection, time.clone())?,
            readers,
            next_reader: AtomicUsize::new(0),
            time,
            known_clients: KnownClients::new(),
            _lock: lock,
        })))
    }

    /// A new database in memory, whose closures run on the thread of the caller: for simulations, in which nothing may depend
    /// on the moment at which another thread runs.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self> {
        let mut connection = connect(Path::new(":memory:"))?;
        migrate(&mut connection)?;
        let time = StoreTime::new(clock);
        Ok(Self(Arc::new(Inner {
            writer: Worker::inline(connection, time.clone()),
            readers: Vec::new(),
            next_reader: AtomicUsize::new(0),
            time,
            known_clients: KnownClients::new(),
            _lock: None,
        })))
    }

    /// Opens the database in `folder`, if there is one, for reading only, and returns the state of its schema. Every
    /// change is refused. Blocks.
    pub fn look(folder: &Path, clock: Arc<dyn Clock>) -> Result<Option<(Self, SchemaState)>> {
        let Some(path) = folder::existing(folder) else {
            return Ok(None);
        };
        let open = || {
            let connection = look_at(&path)?;
            let id = number(&connection, "application_id").map_err(|error| opening(&path, error))?;
            if id != i64::from(APPLICATION_ID) {
                return Err(foreign(&path));
            }
            Ok(connection)
        };
        let time = StoreTime::new(clock);
        let first = open()?;
        let at = u32::try_from(number(&first, "user_version")?).map_err(Error::internal)?;
        let database = Self(Arc::new(Inner {
            writer: Worker::reader(first, time.clone())?,
            readers: vec![Worker::reader(open()?, time.clone())?],
            next_reader: AtomicUsize::new(0),
            time,
            known_clients: KnownClients::new(),
            _lock: None,
        }));
        Ok(Some((database, SchemaState::of(MIGRATIONS, at))))
    }

    pub(super) fn known_clients(&self) -> &KnownClients {
        &self.0.known_clients
    }

    /// Runs a closure in one transaction and returns once the transaction is on disk. An `Err` of the closure undoes
    /// its changes. If the future is dropped before the closure has begun, it does not run; afterwards it runs to its
    /// end.
    ///
    /// `OVERLOADED` if too many closures wait.
    pub async fn call<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let span = tracing::info_span!(target: SPANS, "sqlite write", otel.kind = "client", db.system.name = "sqlite");
        wait(self.0.writer.submit(work)?).instrument(span).await
    }

    /// Runs a closure that only reads. All its reads are of one moment, and see every write that was answered before.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let next = self.0.next_reader.fetch_add(1, Ordering::Relaxed);
        let reader = self.0.readers.get(next % self.0.readers.len().max(1));
        let span = tracing::info_span!(target: SPANS, "sqlite read", otel.kind = "client", db.system.name = "sqlite");
        // A database in memory has one connection for everything.
        wait(reader.unwrap_or(&self.0.writer).submit(work)?)
            .instrument(span)
            .await
    }

    /// The number of closures that wait for the thread that writes.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.writer.queued()
    }

    /// The clock that the database was opened with.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.0.time.clock()
    }
}

async fn wait<T>(answer: tokio::sync::oneshot::Receiver<Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::store_unavailable("closed before it answered")),
        Err(_) => Err(Error::store_unavailable("no answer in time")),
    }
}

/// One transaction, as a closure sees it. A statement is prepared once per connection.
#[derive(Debug)]
pub struct Tx<'c> {
    // Exclusive, so that a `Tx` is `Send`: a `Connection` may move to another thread, but not be shared between two.
    connection: &'c mut Connection,
    now: UnixMillis,
    time: &'c StoreTime,
}

impl<'c> Tx<'c> {
    pub(super) const fn new(connection: &'c mut Connection, now: UnixMillis, time: &'c StoreTime) -> Self {
        Self { connection, now, time }
    }

    /// The clock's time, but never before the time of the newest row.
    #[must_use]
    pub const fn now(&self) -> UnixMillis {
        self.now
    }

    /// See [`StoreTime::capped`].
    pub(super) fn earliest_now(&self) -> UnixMillis {
        self.time.capped()
    }

    /// Runs a statement and returns how many rows it changed.
    pub fn run(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.prepare(sql)?.execute(params)
    }

    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    /// The first row of a query, if there is one.
    pub fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    /// All rows of a query.
    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(read(row)?);
        }
        Ok(all)
    }
}

/// A connection that creates and changes no file. If there is a write-ahead log beside the database, the log is read as
/// well. If there is none, no process writes, and SQLite does not create the files by which connections coordinate.
fn look_at(path: &Path) -> Result<Connection> {
    let path = path.canonicalize().map_err(Error::store_unavailable)?;
    let logged = path.with_extension("db-wal").exists();
    let mut uri = url::Url::from_file_path(&path).map_err(|()| Error::internal("not an absolute path"))?;
    uri.set_query(Some(if logged { "mode=ro" } else { "immutable=1" }));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri.as_str(), flags).map_err(|error| opening(&path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn foreign(path: &Path) -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        format!(
            "the database {} is not one of this program: name another folder in storage.data_dir",
            path.display()
        ),
    )
}

/// The error of opening the database, with its path and, where it can be told, the cure.
fn opening(path: &Path, error: rusqlite::Error) -> Error {
    let cure = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            ": the file is damaged or is no SQLite database; move it away and restore a backup"
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ": the file and its folder must belong to the user that this process runs as"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ": another process holds a lock on it",
        _ => "",
    };
    let text = format!("{}: {error}{cure}", path.display());
    let error = Error::from(error);
    Error::new(error.kind, text)
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).map_err(|error| opening(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(128);
    // Checked before any change, so that a file of another program is left as it is.
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let tables = tables.map_err(|error| opening(path, error))?;
    if tables > 0 && number(&connection, "application_id")? != i64::from(APPLICATION_ID) {
        return Err(foreign(path));
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    // An answered write survives a power failure, not only a crash of the process.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(connection)
}

/// Brings the schema up to date. A second process waits at `BEGIN IMMEDIATE`, and then finds no step missing.
fn migrate(connection: &mut Connection) -> Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let at = u32::try_from(number(&tx, "user_version")?).map_err(Error::internal)?;
    let steps = migrate::pending(MIGRATIONS, at)?;
    for step in steps {
        tx.execute_batch(step.sql)?;
        tx.pragma_update(None, "user_version", step.version)?;
    }
    if !steps.is_empty() {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(tx.commit()?)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}
