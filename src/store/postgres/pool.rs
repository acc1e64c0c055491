//! The pool of connections: how many callers may wait, and what is tried again after a broken connection.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres};
use tokio::sync::{Notify, SemaphorePermit};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::commits::CommitState;
use super::connect::{Endpoint, begin, check};
use super::error::{Failure, Result};
use super::permits::{Permits, PoolLimits};
use super::work::{FailedAttempt, Work};
use crate::clock::millis;
use crate::model::{self, AuditEvent, Error};
use crate::spans::SPANS;
use crate::store::durable::{Transition, WorkMode};
use crate::store::outage::OutageLog;

/// If a caller waits for a connection for longer, the server that can be written is looked for, where there are several.
const SEARCH_AFTER: Duration = Duration::from_millis(50);

/// A connection that was idle for longer is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// The longest that such a ping may take.
const PING_TIMEOUT: Duration = Duration::from_millis(300);

tokio::task_local! {
    /// Set during a retry: forces a new connection, because pooled ones probably broke together.
    static NEW_CONNECTION: ();
}

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
    pool: PgPool,
    permits: Permits,
    commits: Arc<CommitState>,
    begin: Arc<str>,
    direct: bool,
    /// Tells that the server that can be written is to be looked for; none if there is only one server.
    search: Option<Arc<Notify>>,
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
        let search = endpoint.has_several().then(|| Arc::clone(search));
        let (direct, wanted) = (endpoint.is_direct(), search.clone());
        let pool = PgPoolOptions::new()
            .max_connections(limits.size)
            .acquire_timeout(limits.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire({
                let commits = Arc::clone(&commits);
                move |connection, state| {
                    let is_outdated = commits.is_outdated(state.age);
                    Box::pin(async move {
                        if is_outdated || NEW_CONNECTION.try_with(|()| ()).is_ok() {
                            return Ok(false);
                        }
                        if state.idle_for > PING_AFTER_IDLE {
                            // A server that hangs takes the time of one ping for each connection, not that of the caller.
                            return Ok(timeout(PING_TIMEOUT, connection.ping())
                                .await
                                .is_ok_and(|pong| pong.is_ok()));
                        }
                        Ok(true)
                    })
                }
            })
            .after_connect(move |connection, _| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let checked = check(connection, direct).await;
                    if let (Err(_), Some(wanted)) = (&checked, wanted) {
                        wanted.notify_one();
                    }
                    checked
                })
            })
            .connect_lazy_with(endpoint.options());
        Self(Arc::new(Inner {
            pool,
            permits: Permits::new(limits),
            commits,
            begin: begin(endpoint).into(),
            direct,
            search,
            timeout: client_timeout(endpoint),
            outage,
        }))
    }

    /// Closes the connections of now when they would be used next, because they may lead to a server that another one has
    /// replaced, and looks for the server on the latest timeline, where there are several.
    pub(super) fn reconnect(&self) {
        self.0.commits.outdate();
        if let Some(search) = &self.0.search {
            search.notify_one();
        }
    }

    /// How busy the pool is.
    pub(super) fn usage(&self) -> PoolUsage {
        PoolUsage {
            open: self.0.pool.size(),
            idle: u32::try_from(self.0.pool.num_idle()).unwrap_or(u32::MAX),
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
        self.0.pool.set_connect_options(endpoint.options());
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
            let acquire = self.acquire();
            let acquired = if first {
                acquire.await
            } else {
                NEW_CONNECTION.scope((), acquire).await
            };
            let mut connection = match acquired {
                Err(sqlx::Error::PoolTimedOut) => return Err(self.no_connection()),
                acquired => acquired?,
            };
            let done = timeout(self.timeout, self.attempt(&mut connection, work)).await;
            let Ok(done) = done else {
                // The server may still be busy with the statement, so this connection is not used again.
                drop(connection.detach());
                if writes {
                    Box::pin(self.commits.ask_after_timeout(self.acquire())).await;
                    self.refuse_write()?;
                }
                return Err(Failure::TimedOut(format!(
                    "no answer within {} ms",
                    millis(self.timeout)
                )));
            };
            let FailedAttempt { failure, undone } = match done {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            if !failure.is_of_connection() {
                return Err(failure);
            }
            drop(connection.detach());
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

    async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let Some(search) = &self.search else {
            return self.pool.acquire().await;
        };
        let mut acquire = std::pin::pin!(self.pool.acquire());
        match timeout(SEARCH_AFTER, &mut acquire).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(_)) => {
                search.notify_one();
                tokio::time::sleep(SEARCH_AFTER).await;
                self.pool.acquire().await
            }
            Err(_) => {
                search.notify_one();
                // The pool takes the server that is found into account while this call waits.
                acquire.await
            }
        }
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
        let options = self.pool.options();
        let (size, waited) = (options.get_max_connections(), millis(options.get_acquire_timeout()));
        Failure::TimedOut(if self.pool.size() < size {
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
