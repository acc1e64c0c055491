//! How a connection is made, and whether it leads to the server itself or to a pooler.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::error::Failure;
use crate::model::{Error, Result};
use crate::secret::SecretText;

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

/// The other end of a connection, and how to reach it.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    /// The server: the settings of a connection and its prepared statements last as long as the connection.
    Direct(PgConnectOptions),
    /// A pooler: each transaction may reach a different server.
    Pooled(PgConnectOptions),
}

/// A setting that every connection asks for. A pooler does not pass it on.
const PROBE: &str = "countersign.direct";

impl Endpoint {
    /// Connects to `url` once and finds out whether a server or a pooler answers within `timeout`.
    ///
    /// A pooler refuses start-up options or drops them; the server keeps them.
    pub(super) async fn detect(url: &SecretText, limits: Limits, timeout: Duration) -> Result<Self> {
        let options = PgConnectOptions::from_str(url.expose())
            // The error is dropped because its message may quote the URL, which holds the password.
            .map_err(|_| Error::store_unavailable("the database's URL cannot be read"))?
            // Poolers do not know this option, and no column is a floating point number.
            .extra_float_digits(None::<i8>);
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("countersign"),
        };
        let pooled = Self::Pooled(options.clone().statement_cache_capacity(0));
        let direct = Self::Direct(options.options([
            (PROBE, "on".to_owned()),
            ("statement_timeout", limits.statement.as_millis().to_string()),
            ("lock_timeout", limits.lock.as_millis().to_string()),
            (
                "idle_in_transaction_session_timeout",
                limits.idle.as_millis().to_string(),
            ),
            ("default_transaction_isolation", "read committed".to_owned()),
            ("synchronous_commit", "on".to_owned()),
            // The server frees the locks of a vanished replica. A replica notices a vanished server by its own limits.
            ("tcp_keepalives_idle", "30".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]));
        let connected = tokio::time::timeout(timeout, direct.options().connect());
        match connected.await.map_err(Error::store_unavailable)? {
            Ok(mut connection) => {
                let is_direct = tokio::time::timeout(timeout, is_direct(&mut connection));
                let is_direct = is_direct.await.map_err(Error::store_unavailable)?;
                drop(connection.close().await);
                if is_direct.map_err(Failure::from)? {
                    Ok(direct)
                } else {
                    Ok(pooled)
                }
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("08P01") => Ok(pooled),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    pub(super) const fn options(&self) -> &PgConnectOptions {
        match self {
            Self::Direct(options) | Self::Pooled(options) => options,
        }
    }

    pub(super) const fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }

    /// Refuses a connection to a standby, and one to a pooler where [`Endpoint::detect`] found a server.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        // The answers of a standby are old, and a statement that reads would not fail there.
        let row = sqlx::raw_sql("SELECT pg_is_in_recovery()")
            .fetch_one(&mut *connection)
            .await?;
        if row.try_get::<bool, _>(0)? {
            return Err(sqlx::Error::Configuration("the database is a standby".into()));
        }
        if self.is_direct() && !is_direct(connection).await? {
            return Err(sqlx::Error::Configuration("a pooler has come between; restart".into()));
        }
        Ok(())
    }
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
pub(super) fn begin(endpoint: &Endpoint, limits: Limits) -> String {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
    if endpoint.is_direct() {
        return BEGIN.to_owned();
    }
    let [statement, lock, idle] = [limits.statement, limits.lock, limits.idle].map(|limit| limit.as_millis());
    format!(
        "{BEGIN}; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL synchronous_commit = on"
    )
}
