//! How a connection is made, and whether the server itself is at its other end.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::error::Failure;
use crate::model::{Error, Result};
use crate::secret::SecretText;

/// Time limits that the server keeps, so that a connection of ours is never held by what we gave up long ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of one statement.
    pub(super) statement: Duration,
    /// Of one wait for a lock: less than the statement's, so that the error says which it was.
    lock: Duration,
    /// Of doing nothing inside a transaction.
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

/// What is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// The server: a connection's settings last, and so do the statements prepared on it.
    Direct(PgConnectOptions),
    /// A pooler: each transaction may meet another server.
    Pooled(PgConnectOptions),
}

/// Set on every connection; a pooler does not pass it on.
const PROBE: &str = "countersign.direct";

impl Way {
    /// Finds out what is at the other end of `url` by making a connection.
    ///
    /// A pooler refuses start-up options or drops them; the server keeps them.
    pub(super) async fn find(url: &SecretText, limits: Limits, patience: Duration) -> Result<Self> {
        let options = PgConnectOptions::from_str(url.expose())
            // The message may quote the URL, and with it the password.
            .map_err(|_| Error::store_unavailable("the database's URL cannot be read"))?
            // Unknown to poolers, and we have no floating point numbers.
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
            // So that the server frees what a vanished replica held. We notice a vanished server by our own time limits.
            ("tcp_keepalives_idle", "30".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]));
        let connected = tokio::time::timeout(patience, direct.options().connect());
        match connected.await.map_err(Error::store_unavailable)? {
            Ok(mut connection) => {
                let is_direct = tokio::time::timeout(patience, is_direct(&mut connection));
                let is_direct = is_direct.await.map_err(Error::store_unavailable)?;
                drop(connection.close().await);
                if is_direct.map_err(|error| Failure::from(error).into_error())? {
                    Ok(direct)
                } else {
                    Ok(pooled)
                }
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("08P01") => Ok(pooled),
            Err(error) => Err(Failure::from(error).into_error()),
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

    /// Refuses a connection that leads to something else than [`Way::find`] found, or to a standby.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        // Answers of a standby are old, and it is no error of any statement that says so.
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
    // By the simple protocol, which every pooler understands. Behind one that passes sessions on whole it says "on".
    let row = sqlx::raw_sql("SELECT coalesce(current_setting('countersign.direct', true), '')")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<String, _>(0)? == "on")
}

/// How a transaction begins: with its own time limits where the connection's would be another's.
pub(super) fn begin(way: &Way, limits: Limits) -> String {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
    if way.is_direct() {
        return BEGIN.to_owned();
    }
    let [statement, lock, idle] = [limits.statement, limits.lock, limits.idle].map(|limit| limit.as_millis());
    format!(
        "{BEGIN}; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL synchronous_commit = on"
    )
}
