//! How a connection is made, and whether it leads to the server itself or to a pooler.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::RwLock;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::Instant;

use super::error::Failure;
use super::options::{Server, servers};
use crate::config::DatabaseUrl;
use crate::model::{Error, ErrorKind, Result};

/// Time limits that the server enforces, so that abandoned work does not hold a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of one statement.
    pub(super) statement: Duration,
    /// Of one wait for a lock. Shorter than the statement's, so that the error tells which limit passed.
    lock: Duration,
    /// Of an idle transaction.
    idle: Duration,
}

impl Limits {
    pub(super) fn of(statement: Duration) -> Self {
        Self {
            statement,
            lock: statement * 3 / 4,
            idle: statement * 2,
        }
    }
}

/// A setting that every connection asks for. A pooler does not pass it on.
const PROBE: &str = "countersign.direct";

/// How much longer the other servers may take than the first that can be written.
const OTHERS: Duration = Duration::from_millis(200);

/// The servers of the database, and what answers there. Cheap to clone; clones share the servers.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Whether a server answers: then the settings of a connection and its prepared statements last as long as the connection.
    /// Behind a pooler each transaction may reach a different server.
    direct: bool,
    limits: Limits,
    /// The longest that connecting to one server may take.
    timeout: Duration,
    servers: Arc<RwLock<Servers>>,
}

#[derive(Debug)]
struct Servers {
    /// In the order of the URL; at least one.
    list: Arc<[Server]>,
    /// The one to which new connections go.
    current: usize,
}

impl Endpoint {
    /// Finds a server that can be written, of several the one on the latest timeline, and whether a server or a pooler answers
    /// there. Each attempt may take `timeout`.
    ///
    /// A pooler refuses start-up options or drops them; the server keeps them.
    pub(super) async fn detect(url: &DatabaseUrl, limits: Limits, timeout: Duration) -> Result<Self> {
        let list: Arc<[Server]> = servers(url)?.into();
        let several = list.len() > 1;
        let mut failures = Failures::default();
        for current in 0..list.len() {
            let server = &list[current];
            let detected = tokio::time::timeout(timeout, detect(server, limits, several)).await;
            let detected = detected.map_err(|_| no_answer(&server.place(), timeout));
            match detected.and_then(|detected| detected) {
                Ok(direct) => {
                    let endpoint = Self {
                        direct,
                        limits,
                        timeout,
                        servers: Arc::new(RwLock::new(Servers { list, current })),
                    };
                    if several {
                        // Without one, the first server that can be written stays the current one.
                        drop(endpoint.connect().await);
                    }
                    return Ok(endpoint);
                }
                Err(error) if !several => return Err(error),
                Err(error) => failures.add(&list[current], &error),
            }
        }
        Err(failures.into_error())
    }

    /// The options of a new connection.
    pub(super) fn options(&self) -> PgConnectOptions {
        let servers = self.servers.read();
        options(&servers.list[servers.current], self.direct, self.limits)
    }

    /// Whether there are several servers, of which one can be written.
    pub(super) fn has_several(&self) -> bool {
        self.servers.read().list.len() > 1
    }

    /// The database and the server to which new connections go, for messages; without credentials.
    pub(super) fn place(&self) -> String {
        let servers = self.servers.read();
        servers.list[servers.current].place()
    }

    /// The servers of the database, as hosts and ports.
    pub(super) fn address(&self) -> String {
        let servers = self.servers.read();
        let names: Vec<&str> = servers.list.iter().map(|server| server.name.as_str()).collect();
        names.join(", ")
    }

    /// The name of the server to which new connections go.
    pub(super) fn current(&self) -> String {
        let servers = self.servers.read();
        servers.list[servers.current].name.clone()
    }

    /// Connects to a server that can be written. New connections go there from now on, once the pools follow.
    pub(super) async fn connect(&self) -> Result<PgConnection, Failure> {
        let list = Arc::clone(&self.servers.read().list);
        let (index, connection) = self.writable(&list).await?;
        let mut servers = self.servers.write();
        // Unless other servers were set meanwhile.
        if Arc::ptr_eq(&list, &servers.list) {
            servers.current = index;
        }
        Ok(connection)
    }

    /// Uses the servers and the login of this URL, once a connection with it succeeds.
    pub(super) async fn replace(&self, url: &DatabaseUrl) -> Result<(), Failure> {
        let list: Arc<[Server]> = servers(url)?.into();
        let (current, connection) = self.writable(&list).await?;
        *self.servers.write() = Servers { list, current };
        // A failure to say goodbye changes nothing.
        let _ = tokio::time::timeout(self.timeout, connection.close()).await;
        Ok(())
    }

    /// A connection to one of these servers that can be written, and its index. All are asked at once, so that a server that is
    /// silent delays nothing. Of several that can be written, the one on the latest timeline is chosen: an old primary that wakes
    /// after a promotion must not win.
    async fn writable(&self, list: &[Server]) -> Result<(usize, PgConnection), Failure> {
        let attempt = async |index: usize| {
            let server = &list[index];
            let attempt = async {
                let mut connection = open(server, self.direct, self.limits).await?;
                check(&mut connection, self.direct).await?;
                let timeline = if list.len() > 1 {
                    timeline(&mut connection).await?
                } else {
                    0
                };
                Ok::<_, sqlx::Error>((timeline, connection))
            };
            match tokio::time::timeout(self.timeout, attempt).await {
                Ok(Ok(opened)) => Ok(opened),
                Ok(Err(error)) => Err(Failure::from(error)),
                Err(_) => Err(Failure::Rule(no_answer(&server.place(), self.timeout))),
            }
        };
        if list.len() == 1 {
            return Ok((0, attempt(0).await?.1));
        }
        let mut attempts: FuturesUnordered<_> = (0..list.len())
            .map(|index| {
                let attempt = attempt(index);
                async move { (index, attempt.await) }
            })
            .collect();
        let (mut failures, mut best, mut until) = (Failures::default(), None::<(u32, usize, PgConnection)>, None);
        loop {
            let attempted = match until {
                None => attempts.next().await,
                Some(until) => tokio::time::timeout_at(until, attempts.next()).await.unwrap_or(None),
            };
            match attempted {
                Some((index, Ok((timeline, connection)))) => {
                    until.get_or_insert_with(|| Instant::now() + OTHERS);
                    if best.as_ref().is_none_or(|(latest, ..)| timeline > *latest) {
                        best = Some((timeline, index, connection));
                    }
                }
                Some((index, Err(failure))) => failures.add(&list[index], &failure),
                None => break,
            }
        }
        match best {
            Some((_, index, connection)) => Ok((index, connection)),
            None => Err(Failure::Rule(failures.into_error())),
        }
    }

    pub(super) const fn is_direct(&self) -> bool {
        self.direct
    }

    pub(super) const fn statement_timeout(&self) -> Duration {
        self.limits.statement
    }
}

/// Why each of several servers cannot be used.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn add(&mut self, server: &Server, failure: &dyn std::fmt::Display) {
        self.0.push(format!("{}: {failure}", server.name));
    }

    fn into_error(self) -> Error {
        Error::store_unavailable(format!("no server can be written: {}", self.0.join("; ")))
    }
}

/// Whether the server itself answers, and not a pooler.
async fn detect(server: &Server, limits: Limits, must_be_writable: bool) -> Result<bool> {
    let explained = |error: sqlx::Error| Failure::from(error).explained(&server.place());
    let direct = match open(server, true, limits).await {
        Ok(mut connection) => {
            let direct = is_direct(&mut connection).await.map_err(explained)?;
            if must_be_writable {
                check(&mut connection, false).await.map_err(explained)?;
            }
            drop(connection.close().await);
            direct
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("08P01") => false,
        Err(error) => return Err(explained(error)),
    };
    Ok(direct)
}

async fn open(server: &Server, direct: bool, limits: Limits) -> sqlx::Result<PgConnection> {
    match options(server, direct, limits).connect().await {
        Err(error) if server.bridges(&error) => options(server, direct, limits).connect().await,
        opened => opened,
    }
}

fn options(server: &Server, direct: bool, limits: Limits) -> PgConnectOptions {
    // Poolers do not know this option, and no column is a floating point number.
    let options = server.options().extra_float_digits(None::<i8>);
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("countersign"),
    };
    if !direct {
        return options.statement_cache_capacity(0);
    }
    options.options([
        (PROBE, "on".to_owned()),
        ("statement_timeout", limits.statement.as_millis().to_string()),
        ("lock_timeout", limits.lock.as_millis().to_string()),
        (
            "idle_in_transaction_session_timeout",
            limits.idle.as_millis().to_string(),
        ),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        // To compile a statement takes some milliseconds, and each of ours runs for less than one.
        ("jit", "off".to_owned()),
        // The server frees the locks of a vanished replica. A replica notices a vanished server by its own limits.
        ("tcp_keepalives_idle", "30".to_owned()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ])
}

/// Refuses a connection to a standby, and one to a pooler where [`Endpoint::detect`] found a server.
pub(super) async fn check(connection: &mut PgConnection, direct: bool) -> sqlx::Result<()> {
    // The answers of a standby are old, and a statement that reads would not fail there.
    let row = sqlx::raw_sql("SELECT pg_is_in_recovery()")
        .fetch_one(&mut *connection)
        .await?;
    if row.try_get::<bool, _>(0)? {
        return Err(sqlx::Error::Configuration(
            "the database is a standby; name the primary".into(),
        ));
    }
    if direct && !is_direct(connection).await? {
        return Err(sqlx::Error::Configuration("a pooler has come between; restart".into()));
    }
    Ok(())
}

/// Refuses a server that takes no writes.
pub(super) async fn refuse_read_only(connection: &mut PgConnection) -> sqlx::Result<()> {
    let read_only = sqlx::raw_sql("SELECT current_setting('transaction_read_only') = 'on'");
    if read_only.fetch_one(connection).await?.try_get(0)? {
        return Err(sqlx::Error::Configuration("the database is read-only".into()));
    }
    Ok(())
}

/// The timeline of a primary; 0 if the role may not ask for it.
async fn timeline(connection: &mut PgConnection) -> sqlx::Result<u32> {
    let asked = sqlx::raw_sql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
    match asked.fetch_one(connection).await {
        Ok(row) => Ok(u32::from_str_radix(&row.try_get::<String, _>(0)?, 16).unwrap_or(0)),
        Err(sqlx::Error::Database(_)) => Ok(0),
        Err(error) => Err(error),
    }
}

/// The error where the server accepts a connection and then says nothing.
pub(super) fn no_answer(place: &str, timeout: Duration) -> Error {
    let seconds = timeout.as_secs_f64();
    let message =
        format!("{place}: no answer within {seconds} s; does a firewall drop packets, or is the server overloaded?");
    Error::new(ErrorKind::StoreUnavailable, message)
}

async fn is_direct(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // By the simple protocol, which every pooler understands. A pooler in session mode passes the setting on: "on".
    let row = sqlx::raw_sql("SELECT coalesce(current_setting('countersign.direct', true), '')")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<String, _>(0)? == "on")
}

/// The statements that begin a transaction. Behind a pooler they set the time limits, because the settings of the
/// connection are those of another client.
pub(super) fn begin(endpoint: &Endpoint) -> String {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
    if endpoint.is_direct() {
        return BEGIN.to_owned();
    }
    let limits = endpoint.limits;
    let [statement, lock, idle] = [limits.statement, limits.lock, limits.idle].map(|limit| limit.as_millis());
    format!(
        "{BEGIN}; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL synchronous_commit = on"
    )
}
