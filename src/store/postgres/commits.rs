//! Commits that wait for a synchronous standby which is away.
//!
//! The server sets no time limit for such a wait: `statement_timeout` does not count it. If the wait is cancelled, the server
//! reports a success although no standby has the change, so a wait must never be cancelled. If its server process is
//! terminated, the connection closes without an answer. Therefore the waits that their clients have given up are found in
//! `pg_stat_activity` and terminated, also those of other replicas and of processes that were killed. That needs no process ids,
//! which behind a pooler belong to other connections a moment later.
//!
//! While commits wait, every write fails at once. One write at a time finds out whether they end again: that of the probe. A
//! caller's write cannot, because one that changes no row commits without a wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::{Instant, timeout};

use super::connect::{Endpoint, begin, refuse_read_only};
use super::error::{Failure, Result};
use crate::clock::millis;
use crate::store::outage::Loss;

/// What it means to callers that no commit ends.
const EFFECT: &str = "logins with a password, revocations and other changes fail until a standby is back; access tokens are \
                      validated, and refreshes and tokens of machines go on";

/// Whether commits end. All pools of a store share it.
pub(super) struct CommitState {
    /// How long a statement may take at the server.
    statement: Duration,
    /// How long a client waits for a write; then it has given up.
    client: Duration,
    /// Begins a transaction with the settings of a write.
    begin: String,
    /// Why no commit ends; none if they do.
    waiting: Mutex<Option<String>>,
    /// Whether the last probe found the database lost.
    is_lost: AtomicBool,
    /// When the database was last back.
    back: Mutex<Option<Instant>>,
    /// Held while the server is asked after a write timed out.
    asking: tokio::sync::Mutex<()>,
}

/// The waits for a standby at the server.
struct Waits {
    /// Those that have lasted longer than any statement may.
    count: i64,
    /// The server's `synchronous_standby_names`.
    standbys: String,
}

impl CommitState {
    /// Commits end until a write shows otherwise. `client` is how long a client waits for a write.
    pub(super) fn new(endpoint: &Endpoint, client: Duration) -> Self {
        Self {
            statement: endpoint.statement_timeout(),
            client,
            begin: begin(endpoint),
            waiting: Mutex::default(),
            is_lost: AtomicBool::new(false),
            back: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Why no commit ends; none if they do.
    pub(super) fn cause(&self) -> Option<String> {
        self.waiting.lock().clone()
    }

    /// Whether a connection of this age was made before the database was last back. It may lead to the server from before: behind
    /// an address that was switched without cutting connections, or to one that hung.
    pub(super) fn is_outdated(&self, age: Duration) -> bool {
        self.back.lock().is_some_and(|back| age > back.elapsed())
    }

    /// Outdates the connections of now: another server has replaced the one to which they lead.
    pub(super) fn outdate(&self) {
        *self.back.lock() = Some(Instant::now());
    }

    /// Asks the server, on this connection, whether commits wait, because a write has timed out. `acquire` is not awaited if
    /// another write asked meanwhile.
    pub(super) async fn ask_after_timeout<C: std::ops::DerefMut<Target = PgConnection>>(
        &self,
        acquire: impl Future<Output = sqlx::Result<C>>,
    ) {
        let Ok(_asking) = self.asking.try_lock() else { return };
        if self.cause().is_some() {
            return;
        }
        let asked = timeout(self.statement, async {
            let mut connection = acquire.await?;
            self.find_waits(&mut connection, self.client).await
        });
        // Without an answer the database is away, which the outage log finds out.
        if let Ok(Ok(waits)) = asked.await {
            self.note(&waits);
        }
    }

    /// Connects, checks that the server can be written, and while commits wait, whether one ends. Terminates the waits that
    /// their clients have given up. When the database is back, the connections from before are outdated.
    pub(super) async fn probe(&self, endpoint: &Endpoint, connecting: Duration) -> Result<(), Loss> {
        let probed = self.ask(endpoint, connecting).await;
        if self.is_lost.swap(probed.is_err(), Ordering::SeqCst) && probed.is_ok() {
            self.outdate();
        }
        probed
    }

    async fn ask(&self, endpoint: &Endpoint, connecting: Duration) -> Result<(), Loss> {
        let asked = timeout(connecting, async {
            let mut connection = endpoint.connect().await?;
            refuse_read_only(&mut connection).await?;
            let waits = self.find_waits(&mut connection, self.client).await?;
            Ok::<_, Failure>((connection, waits))
        });
        let mut connection = match asked.await {
            Ok(Ok((connection, waits))) => {
                self.note(&waits);
                connection
            }
            // It has no connection for one more client, but serves those that it has.
            Ok(Err(failure)) if failure.is_of_full_server() => {
                return self.cause().map_or(Ok(()), |cause| Err(loss(cause)));
            }
            Ok(Err(failure)) => return Err(failure.cause_text().into()),
            Err(_) => return Err(format!("no answer within {} ms", millis(connecting)).into()),
        };
        let Some(cause) = self.cause() else {
            // A failure to say goodbye changes nothing.
            let _ = timeout(connecting, sqlx::Connection::close(connection)).await;
            return Ok(());
        };
        match timeout(self.client, self.commit(&mut connection)).await {
            // A refusal of the statement is an answer too: it does not keep the writes of callers away for ever.
            Ok(Ok(()) | Err(sqlx::Error::Database(_))) => {
                *self.waiting.lock() = None;
                // The commits that waited may have been at another server.
                *self.back.lock() = Some(Instant::now());
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(loss(cause)),
        }
    }

    /// Why no commit ends, as a command finds it; none if they do. If no standby is named, nothing is tried.
    pub(super) async fn check(&self, endpoint: &Endpoint) -> Result<Option<String>> {
        let mut connection = endpoint.connect().await?;
        let waits = self.find_waits(&mut connection, self.client).await?;
        if waits.standbys.trim().is_empty() {
            return Ok(None);
        }
        match timeout(self.client, self.commit(&mut connection)).await {
            Ok(Ok(()) | Err(sqlx::Error::Database(_))) => return Ok(None),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => drop(connection),
        }
        // Leaves no wait behind.
        let mut connection = endpoint.connect().await?;
        let waits = self.find_waits(&mut connection, self.statement).await?;
        self.note(&waits);
        Ok(self.cause())
    }

    /// A transaction that changes nothing and still writes to the log of the server, so that its commit waits like others: it
    /// locks a row in the weakest way, which hinders no other transaction.
    async fn commit(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let text = format!("{}; SELECT 1 FROM meta FOR KEY SHARE; COMMIT", self.begin);
        sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
    }

    /// Finds the waits of this service at the server, and terminates those that have lasted for `given_up`.
    async fn find_waits(&self, connection: &mut PgConnection, given_up: Duration) -> Result<Waits> {
        let (statement, given_up) = (millis(self.statement), millis(given_up));
        // A role sees its own connections, and may terminate them. The last statement counts: a transaction may be older than its commit.
        let text = format!(
            "SELECT count(*), current_setting('synchronous_standby_names'),
                    count(CASE WHEN query_start < clock_timestamp() - interval '{given_up} milliseconds'
                               THEN pg_terminate_backend(pid) END)
             FROM pg_stat_activity
             WHERE datname = current_database() AND usename = current_user
               AND application_name = current_setting('application_name')
               AND wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '{statement} milliseconds'"
        );
        let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(connection).await?;
        let waits = Waits {
            count: row.try_get(0)?,
            standbys: row.try_get(1)?,
        };
        let terminated: i64 = row.try_get(2)?;
        if terminated > 0 {
            tracing::debug!(
                terminated,
                "terminated commits that waited for a standby longer than their clients"
            );
        }
        Ok(waits)
    }

    fn note(&self, waits: &Waits) {
        let mut waiting = self.waiting.lock();
        if waits.count == 0 && (waiting.is_none() || waits.standbys.trim().is_empty()) {
            return;
        }
        let cause = format!(
            "commits wait for a synchronous standby (synchronous_standby_names = '{}'): start a standby that it names, or take the \
             lost one out of it; the runbook says how (\"Commits wait for a standby\")",
            waits.standbys
        );
        // Also if they waited before: the setting may be another one now.
        *waiting = Some(cause);
    }
}

fn loss(cause: String) -> Loss {
    Loss {
        cause,
        without_writes: Some(EFFECT),
    }
}
