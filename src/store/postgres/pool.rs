//! The pool: who waits, who is turned away, what is tried again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, PgPool};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::connect::{Limits, Way, begin};
use super::error::{Failure, Result};
use super::statement::{Session, Statement};
use crate::model::{self, Error, ErrorKind};
use crate::spans::SPANS;

/// A connection that nobody used for so long is asked whether it lives before it is relied on.
const STALE: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Set while a connection is wanted that was made just now. When one breaks, those beside it in the pool mostly lead
    /// the same way, and what is tried again must not meet them.
    static FRESH: ();
}

/// How a piece of work runs, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// One statement that reads, or that run twice is run once: again on a fresh connection if the first broke.
    Repeatable,
    /// One statement: again only if it surely did not run.
    Once,
    /// In a transaction: again if the connection broke before the commit, or the commit surely did not happen.
    Transaction,
}

/// How busy a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Open connections.
    pub open: u32,
    /// Those of them that nobody uses.
    pub idle: u32,
    /// Callers that have a connection or wait for one.
    pub callers: u32,
}

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// How many places there are.
    room: u32,
    /// One permit for each connection, and one for each caller who may wait.
    places: Arc<Semaphore>,
    begin: Arc<str>,
    direct: bool,
    patience: Duration,
}

impl Pool {
    /// A pool of at most `size` connections, for which at most `waiting` callers wait. It connects when it is first used.
    pub(super) fn new(way: &Way, limits: Limits, size: u32, waiting: u32, acquire_timeout: Duration) -> Self {
        let check = way.clone();
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if FRESH.try_with(|()| ()).is_ok() {
                        return Ok(false);
                    }
                    if state.idle_for > STALE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let check = check.clone();
                Box::pin(async move { check.check(connection).await })
            })
            .connect_lazy_with(way.options().clone());
        Self(Arc::new(Inner {
            pool,
            room: size.saturating_add(waiting),
            places: Arc::new(Semaphore::new(size.saturating_add(waiting) as usize)),
            begin: begin(way, limits).into(),
            direct: way.is_direct(),
            // The server's own limit comes first, if it answers at all.
            patience: limits.statement + Duration::from_millis(500),
        }))
    }

    /// How busy it is.
    pub(super) fn usage(&self) -> PoolUsage {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        PoolUsage {
            open: self.0.pool.size(),
            idle: small(self.0.pool.num_idle()),
            callers: self.0.room.saturating_sub(small(self.0.places.available_permits())),
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn run(&self, how: How, statement: Statement) -> model::Result<u64> {
        self.with(how, move |session| Box::pin(session.run(statement.clone())))
            .await
    }

    /// The first row, if there is one.
    pub(super) async fn first<T, R>(&self, how: How, statement: Statement, read: R) -> model::Result<Option<T>>
    where
        T: Send + 'static,
        R: Fn(&PgRow) -> Result<T> + Copy + Send + Sync + 'static,
    {
        self.with(how, move |session| Box::pin(session.first(statement.clone(), read)))
            .await
    }

    /// All rows.
    pub(super) async fn all<T, R>(&self, how: How, statement: Statement, read: R) -> model::Result<Vec<T>>
    where
        T: Send + 'static,
        R: Fn(&PgRow) -> Result<T> + Copy + Send + Sync + 'static,
    {
        self.with(how, move |session| Box::pin(session.all(statement.clone(), read)))
            .await
    }

    /// Runs `work` on a connection, in a task of its own: it comes to its end whatever becomes of the caller. An `Err`
    /// of it leaves nothing behind.
    ///
    /// `OVERLOADED` at once if as many wait already as may; `STORE_UNAVAILABLE` if a wait runs out.
    pub(super) async fn with<T, W>(&self, how: How, work: W) -> model::Result<T>
    where
        T: Send + 'static,
        W: for<'s> Fn(&'s mut Session<'_>) -> BoxFuture<'s, Result<T>> + Send + Sync + 'static,
    {
        let places = Arc::clone(&self.0.places);
        let place = places.try_acquire_owned().map_err(|_| ErrorKind::Overloaded)?;
        let inner = Arc::clone(&self.0);
        let span = tracing::info_span!(target: SPANS, "postgres", otel.kind = "internal",
            db.system.name = "postgresql", how = ?how);
        // In a box: it has several kilobytes, and is moved about before it runs.
        let work = Box::pin(async move {
            let done = inner.work(how, &work).await;
            drop(place);
            done.map_err(Failure::into_error)
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
    async fn work<T, W>(&self, how: How, work: &W) -> Result<T>
    where
        W: for<'s> Fn(&'s mut Session<'_>) -> BoxFuture<'s, Result<T>> + Send + Sync,
    {
        let mut first = true;
        loop {
            let acquire = self.pool.acquire();
            let mut connection = if first {
                acquire.await
            } else {
                FRESH.scope((), acquire).await
            }?;
            let done = timeout(self.patience, self.attempt(&mut connection, how, work)).await;
            let Ok(done) = done else {
                // Whatever the server still does there, nobody may be given this connection again.
                drop(connection.detach());
                return Err(Error::store_unavailable("no answer in time").into());
            };
            let Broken { failure, undone } = match done {
                Ok(done) => return Ok(done),
                Err(broken) => broken,
            };
            if !failure.is_of_connection() {
                return Err(failure);
            }
            drop(connection.detach());
            if !first || !(undone || how == How::Repeatable) {
                return Err(failure);
            }
            first = false;
            tracing::debug!(?failure, "trying again on a fresh connection");
        }
    }

    async fn attempt<T, W>(&self, connection: &mut PgConnection, how: How, work: &W) -> Result<T, Broken>
    where
        W: for<'s> Fn(&'s mut Session<'_>) -> BoxFuture<'s, Result<T>> + Send + Sync,
    {
        if self.direct && how != How::Transaction {
            let mut session = Session {
                connection,
                named: true,
            };
            return work(&mut session).await.map_err(Broken::at_commit);
        }
        let begin = AssertSqlSafe(Arc::clone(&self.begin));
        let mut transaction = connection.begin_with(begin).await.map_err(Broken::before_commit)?;
        let mut session = Session {
            connection: &mut transaction,
            named: self.direct,
        };
        match work(&mut session).await {
            Ok(done) => {
                transaction.commit().await.map_err(Broken::at_commit)?;
                Ok(done)
            }
            Err(failure) => {
                if !failure.is_of_connection() {
                    transaction.rollback().await.map_err(Broken::before_commit)?;
                }
                Err(Broken::before_commit(failure))
            }
        }
    }
}

/// A failure, and whether what was attempted surely did not happen.
struct Broken {
    failure: Failure,
    undone: bool,
}

impl Broken {
    fn before_commit(failure: impl Into<Failure>) -> Self {
        Self {
            failure: failure.into(),
            undone: true,
        }
    }

    fn at_commit(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        Self {
            undone: failure.is_surely_undone(),
            failure,
        }
    }
}
