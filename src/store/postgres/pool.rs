//! The pool of connections: how many callers may wait, and what is tried again after a broken connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::connect::{Endpoint, Limits, begin};
use super::error::{Failure, Result};
use super::statement::StatementConnection;
use crate::model::{self, Error, ErrorKind};
use crate::spans::SPANS;
use crate::store::durable::{Read, Statement};

/// A connection that was idle for longer is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Set during a retry: forces a new connection, because pooled ones probably broke together.
    static NEW_CONNECTION: ();
}

/// How a piece of work runs, and when it is tried a second time, on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryMode {
    /// One statement that reads, or whose second run changes nothing. A second time if the connection broke.
    Repeatable,
    /// One statement. A second time only if the first certainly did not take effect.
    Once,
    /// A transaction. A second time if the connection broke before the commit, or the commit certainly failed.
    Transaction,
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

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// The most callers at once: those that have a connection and those that wait.
    max_callers: u32,
    /// One permit for each caller.
    permits: Arc<Semaphore>,
    begin: Arc<str>,
    direct: bool,
    /// The longest that one attempt may take.
    timeout: Duration,
}

impl Pool {
    /// A pool of at most `size` connections, for which at most `waiting` callers wait. It connects when it is first
    /// used.
    pub(super) fn new(endpoint: &Endpoint, limits: Limits, size: u32, waiting: u32, acquire_timeout: Duration) -> Self {
        let check = endpoint.clone();
        let max_callers = size.saturating_add(waiting);
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if NEW_CONNECTION.try_with(|()| ()).is_ok() {
                        return Ok(false);
                    }
                    if state.idle_for > PING_AFTER_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let check = check.clone();
                Box::pin(async move { check.check(connection).await })
            })
            .connect_lazy_with(endpoint.options().clone());
        Self(Arc::new(Inner {
            pool,
            max_callers,
            permits: Arc::new(Semaphore::new(max_callers as usize)),
            begin: begin(endpoint, limits).into(),
            direct: endpoint.is_direct(),
            // Longer than the server's own limit, so that a server which still answers ends the statement itself.
            timeout: limits.statement + Duration::from_millis(500),
        }))
    }

    /// How busy the pool is.
    pub(super) fn usage(&self) -> PoolUsage {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        PoolUsage {
            open: self.0.pool.size(),
            idle: small(self.0.pool.num_idle()),
            callers: self
                .0
                .max_callers
                .saturating_sub(small(self.0.permits.available_permits())),
        }
    }

    /// Runs a statement and returns how many rows it changed.
    pub(super) async fn run(&self, how: RetryMode, statement: Statement) -> model::Result<u64> {
        let statement = Arc::new(statement);
        self.with(how, move |session| {
            let statement = Arc::clone(&statement);
            Box::pin(async move { session.run(&statement).await })
        })
        .await
    }

    /// The first row, if there is one.
    pub(super) async fn first<T: Send + 'static>(
        &self,
        how: RetryMode,
        statement: Statement,
        read: Read<T>,
    ) -> model::Result<Option<T>> {
        Ok(self.all(how, statement, read).await?.into_iter().next())
    }

    /// All rows.
    pub(super) async fn all<T: Send + 'static>(
        &self,
        how: RetryMode,
        statement: Statement,
        read: Read<T>,
    ) -> model::Result<Vec<T>> {
        let statement = Arc::new(statement);
        self.with(how, move |session| {
            let statement = Arc::clone(&statement);
            Box::pin(async move { session.all(&statement, read).await })
        })
        .await
    }

    /// Runs `work` on a connection, in a task of its own, which ends even if the caller goes away. An `Err` of `work`
    /// leaves no change behind.
    ///
    /// `OVERLOADED` at once if the most callers wait already; `STORE_UNAVAILABLE` if a time limit passes.
    pub(super) async fn with<T, W>(&self, how: RetryMode, work: W) -> model::Result<T>
    where
        T: Send + 'static,
        W: for<'s> Fn(&'s mut StatementConnection<'_>) -> BoxFuture<'s, Result<T>> + Send + Sync + 'static,
    {
        let permits = Arc::clone(&self.0.permits);
        let permit = permits.try_acquire_owned().map_err(|_| ErrorKind::Overloaded)?;
        let inner = Arc::clone(&self.0);
        let span = tracing::info_span!(target: SPANS, "postgres", otel.kind = "internal",
            db.system.name = "postgresql", how = ?how);
        // Boxed because the future has several kilobytes and is moved before it runs.
        let work = Box::pin(async move {
            let done = inner.work(how, &work).await;
            drop(permit);
            done.map_err(Error::from)
        });
        let task = tokio::spawn(work.instrument(span));
        task.await.unwrap_or_else(|gone| {
            Err(if gone.is_panic() {
                Error::internal("a transaction panicked")
            } else {
                Error::store_unavailable(gone)
            })
        })
    }
}

impl Inner {
    async fn work<T, W>(&self, how: RetryMode, work: &W) -> Result<T>
    where
        W: for<'s> Fn(&'s mut StatementConnection<'_>) -> BoxFuture<'s, Result<T>> + Send + Sync,
    {
        let mut first = true;
        loop {
            let acquire = self.pool.acquire();
            let mut connection = if first {
                acquire.await
            } else {
                NEW_CONNECTION.scope((), acquire).await
            }?;
            let done = timeout(self.timeout, self.attempt(&mut connection, how, work)).await;
            let Ok(done) = done else {
                // The server may still be busy with the statement, so this connection is not used again.
                drop(connection.detach());
                return Err(Error::store_unavailable("no answer in time").into());
            };
            let FailedAttempt { failure, undone } = match done {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            if !failure.is_of_connection() {
                return Err(failure);
            }
            drop(connection.detach());
            if !first || !(undone || how == RetryMode::Repeatable) {
                return Err(failure);
            }
            first = false;
            tracing::debug!(error = %failure, "the connection to PostgreSQL broke; trying again on a new one");
        }
    }

    async fn attempt<T, W>(&self, connection: &mut PgConnection, how: RetryMode, work: &W) -> Result<T, FailedAttempt>
    where
        W: for<'s> Fn(&'s mut StatementConnection<'_>) -> BoxFuture<'s, Result<T>> + Send + Sync,
    {
        if self.direct && how != RetryMode::Transaction {
            let mut statements = StatementConnection {
                connection,
                named: true,
            };
            return work(&mut statements).await.map_err(FailedAttempt::at_commit);
        }
        let begin = AssertSqlSafe(Arc::clone(&self.begin));
        let mut transaction = connection
            .begin_with(begin)
            .await
            .map_err(FailedAttempt::before_commit)?;
        let mut statements = StatementConnection {
            connection: &mut transaction,
            named: self.direct,
        };
        match work(&mut statements).await {
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

/// A failure, and whether the attempt certainly changed nothing.
struct FailedAttempt {
    failure: Failure,
    undone: bool,
}

impl FailedAttempt {
    fn before_commit(failure: impl Into<Failure>) -> Self {
        Self {
            failure: failure.into(),
            undone: true,
        }
    }

    fn at_commit(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        Self {
            undone: failure.is_certainly_rolled_back(),
            failure,
        }
    }
}
