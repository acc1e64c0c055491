//! The pool of connections: how many callers may wait, and what is tried again after a broken connection.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::{Notify, SemaphorePermit};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::commits::CommitState;
use super::connect::{Endpoint, begin};
use super::connections::Connections;
use super::error::{Failure, Result};
use super::permits::{Permits, PoolLimits};
use super::work::{FailedAttempt, Work};
use crate::clock::millis;
use crate::model::{self, AuditEvent, Error};
use crate::spans::SPANS;
use crate::store::durable::{Transition, WorkMode};
use crate::store::outage::OutageLog;

/// How busy a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Open connections.
    pub open: u32,
    /// Open connections that are not in use.
    pub idle: u32,
    /// Callers that have a connection or wait for one.
    pub callers: u32,
}

/// How long a client waits for a statement.
pub(super) fn client_timeout(endpoint: &Endpoint) -> Duration {
    // Longer than the server's own limit, so that a server which still answers ends the statement itself.
    endpoint.statement_timeout() + Duration::from_millis(500)
}

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    connections: Arc<Connections>,
    permits: Permits,
    commits: Arc<CommitState>,
    begin: Arc<str>,
    direct: bool,
    /// The longest that one attempt may take.
    timeout: Duration,
    outage: OutageLog,
}

impl Pool {
    /// A pool with these limits. It connects when it is first used, and tells `outage` of what fails. `search` is notified
    /// where there are several servers and a new connection does not lead to one that can be written.
    pub(super) fn new(
        endpoint: &Endpoint,
        search: &Arc<Notify>,
        limits: PoolLimits,
        commits: Arc<CommitState>,
        outage: OutageLog,
    ) -> Self {
        Self(Arc::new(Inner {
            connections: Connections::new(endpoint, search, limits, Arc::clone(&commits)),
            permits: Permits::new(limits),
            commits,
            begin: begin(endpoint).into(),
            direct: endpoint.is_direct(),
            timeout: client_timeout(endpoint),
            outage,
        }))
    }

    /// Closes the connections of now when they would be used next, because they may lead to a server that another one has
    /// replaced, and looks for the server on the latest timeline, where there are several.
    pub(super) fn reconnect(&self) {
        self.0.commits.outdate();
        self.0.connections.search();
    }

    /// How busy the pool is.
    pub(super) fn usage(&self) -> PoolUsage {
        let (open, idle) = self.0.connections.open_and_idle();
        PoolUsage {
            open,
            idle,
            callers: self.0.permits.callers(),
        }
    }

    /// `STORE_UNAVAILABLE` if a write would fail at once, because no commit ends.
    pub(super) fn check_writable(&self) -> model::Result<()> {
        let refused = self.0.refuse_write();
        refused.map_err(|failure| self.0.error(&failure))
    }

    /// Makes new connections as the endpoint says from now on. Open ones live out their age.
    pub(super) fn follow(&self, endpoint: &Endpoint) {
        self.0.connections.follow(endpoint);
    }

    /// Runs `transition` on a connection, in a task of its own, which ends even if the caller goes away. An `Err` of it
    /// leaves no change behind.
    ///
    /// `OVERLOADED` at once if the most callers, or the most of those that write, wait already; `STORE_UNAVAILABLE` if a time limit passes.
    pub(super) async fn execute<A, T>(
        &self,
        mode: WorkMode,
        event: Option<&AuditEvent>,
        arguments: A,
        transition: Transition<A, T>,
    ) -> model::Result<(T, bool)>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let permit = self.0.permits.admit(writes(mode))?;
        let inner = Arc::clone(&self.0);
        let span = tracing::info_span!(target: SPANS, "postgres", otel.kind = "internal",
            db.system.name = "postgresql", how = ?mode);
        let work = Work {
            mode,
            event: event.cloned(),
            arguments,
            transition,
        };
        // Boxed because the future has several kilobytes and is moved before it runs.
        let run = Box::pin(async move {
            let done = inner.work(&work).await;
            drop(permit);
            done.map_err(|failure| inner.error(&failure))
        });
        let task = tokio::spawn(run.instrument(span));
        task.await.unwrap_or_else(|gone| {
            Err(if gone.is_panic() {
                Error::internal("a transaction panicked")
            } else {
                Error::store_unavailable(gone)
            })
        })
    }
}

const fn writes(mode: WorkMode) -> bool {
    !matches!(mode, WorkMode::Read | WorkMode::Snapshot)
}

impl Inner {
    async fn work<A: Sync, T>(&self, work: &Work<A, T>) -> Result<(T, bool)> {
        let writes = writes(work.mode);
        let _permit = if writes { Some(self.write_permit().await?) } else { None };
        let mut first = true;
        loop {
            if writes {
                self.refuse_write()?;
            }
            let acquired = if first {
                self.connections.acquire().await
            } else {
                self.connections.open().await
            };
            let mut connection = match acquired {
                Err(sqlx::Error::PoolTimedOut) => return Err(self.no_connection()),
                acquired => acquired?,
            };
            let done = timeout(self.timeout, self.attempt(&mut connection, work)).await;
            let Ok(done) = done else {
                connection.discard();
                if writes {
                    Box::pin(self.commits.ask_after_timeout(self.connections.acquire())).await;
                    self.refuse_write()?;
                }
                return Err(Failure::TimedOut(format!(
                    "no answer within {} ms",
                    millis(self.timeout)
                )));
            };
            let FailedAttempt { failure, undone } = match done {
                Ok(done) => {
                    connection.keep();
                    return Ok(done);
                }
                Err(failed) => failed,
            };
            if !failure.is_of_connection() {
                return Err(failure);
            }
            connection.discard();
            if !first || !(undone || matches!(work.mode, WorkMode::Read | WorkMode::Repeatable)) {
                return Err(failure);
            }
            first = false;
            tracing::debug!(error = %failure, "the connection to PostgreSQL broke; trying again on a new one");
        }
    }

    /// Waits until fewer writes are under way than may be.
    async fn write_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.permits.write().await.map_err(|too_many| {
            Failure::TimedOut(match self.outage.cause() {
                Some(cause) => format!("the database is away: {cause}"),
                None => too_many,
            })
        })
    }

    /// Fails if no commit ends.
    fn refuse_write(&self) -> Result<()> {
        self.commits
            .cause()
            .map_or(Ok(()), |cause| Err(Failure::TimedOut(cause)))
    }

    /// The error for the caller. A failure of the database is counted: the outage has its own lines.
    fn error(&self, failure: &Failure) -> Error {
        let error = failure.to_error();
        if failure.is_of_database() {
            self.outage.failed(failure);
            return error.already_logged();
        }
        error
    }

    /// Why there was no connection within `storage.acquire_timeout`. A pool that waits for a database which is away is not
    /// full.
    fn no_connection(&self) -> Failure {
        if let Some(cause) = self.outage.cause() {
            return Failure::TimedOut(format!("the database is away: {cause}"));
        }
        let ((size, limit), (open, _)) = (self.connections.limits(), self.connections.open_and_idle());
        let waited = millis(limit);
        Failure::TimedOut(if open < size {
            format!("no connection could be opened within {waited} ms (storage.acquire_timeout)")
        } else {
            format!(
                "all {size} connections of the pool were in use for {waited} ms (storage.database_pool, \
                 storage.acquire_timeout)"
            )
        })
    }

    async fn attempt<A: Sync, T>(
        &self,
        connection: &mut PgConnection,
        work: &Work<A, T>,
    ) -> Result<(T, bool), FailedAttempt> {
        if self.direct && !matches!(work.mode, WorkMode::Snapshot | WorkMode::Transaction) {
            return work.run(connection, true).await.map_err(FailedAttempt::at_commit);
        }
        Box::pin(self.attempt_transaction(connection, work)).await
    }

    async fn attempt_transaction<A: Sync, T>(
        &self,
        connection: &mut PgConnection,
        work: &Work<A, T>,
    ) -> Result<(T, bool), FailedAttempt> {
        let begin = AssertSqlSafe(Arc::clone(&self.begin));
        let mut transaction = connection
            .begin_with(begin)
            .await
            .map_err(FailedAttempt::before_commit)?;
        match work.run(&mut transaction, self.direct).await {
            Ok(done) => {
                transaction.commit().await.map_err(FailedAttempt::at_commit)?;
                Ok(done)
            }
            Err(failure) => {
                if !failure.is_of_connection() {
                    transaction.rollback().await.map_err(FailedAttempt::before_commit)?;
                }
                Err(FailedAttempt::before_commit(failure))
            }
        }
    }
}
