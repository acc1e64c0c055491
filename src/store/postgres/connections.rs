//! The connections of a pool, and those that were in use a moment ago. The latter are used again as they are: sqlx checks a
//! connection by a round trip whenever it gets one back, which costs as much as a small statement.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{Connection as _, PgPool, Postgres};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::commits::CommitState;
use super::connect::{Endpoint, check};
use super::permits::PoolLimits;

/// If a caller waits for a connection for longer, the server that can be written is looked for, where there are several.
const SEARCH_AFTER: Duration = Duration::from_millis(50);

/// A connection that was idle for longer is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// The longest that such a ping may take.
const PING_TIMEOUT: Duration = Duration::from_millis(300);

/// A connection is given back to the pool after this time, so that the pool can close it when it is old.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Set during a retry: forces a new connection, because pooled ones probably broke together.
    static NEW_CONNECTION: ();
}

/// The connections to one server.
pub(super) struct Connections {
    pool: PgPool,
    /// Those that are not in use now and were so a moment ago; the latest is the last.
    recent: Mutex<Vec<Recent>>,
    /// One permit for each connection in use. Where one is free and `recent` is empty, the pool has room for another connection.
    in_use: Semaphore,
    commits: Arc<CommitState>,
    /// Tells that the server that can be written is to be looked for; none if there is only one server.
    search: Option<Arc<Notify>>,
}

struct Recent {
    connection: PoolConnection<Postgres>,
    /// When the pool gave it.
    acquired: Instant,
    used: Instant,
}

/// A connection in use. Dropping it gives it to the pool, which checks it.
pub(super) struct UsedConnection<'c> {
    connection: PoolConnection<Postgres>,
    acquired: Instant,
    connections: &'c Connections,
    _in_use: SemaphorePermit<'c>,
}

impl Connections {
    /// Connects when it is first used. `search` is notified where there are several servers and a new connection does not lead to
    /// one that can be written. Call it within a tokio runtime.
    pub(super) fn new(
        endpoint: &Endpoint,
        search: &Arc<Notify>,
        limits: PoolLimits,
        commits: Arc<CommitState>,
    ) -> Arc<Self> {
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
                        Ok(state.idle_for <= PING_AFTER_IDLE || does_answer(connection).await)
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
        let connections = Arc::new(Self {
            pool,
            recent: Mutex::default(),
            in_use: Semaphore::new(limits.size as usize),
            commits,
            search,
        });
        let weak = Arc::downgrade(&connections);
        tokio::spawn(async move {
            while let Some(unused) = weak.upgrade().map(|connections| connections.take_unused()) {
                join_all(unused.into_iter().map(give_back)).await;
                tokio::time::sleep(PING_AFTER_IDLE).await;
            }
        });
        connections
    }

    /// Makes new connections as the endpoint says from now on. Open ones live out their age.
    pub(super) fn follow(&self, endpoint: &Endpoint) {
        self.pool.set_connect_options(endpoint.options());
    }

    /// Looks for the server on the latest timeline, where there are several.
    pub(super) fn search(&self) {
        if let Some(search) = &self.search {
            search.notify_one();
        }
    }

    /// Open connections, and how many of them are not in use.
    pub(super) fn open_and_idle(&self) -> (u32, u32) {
        let idle = self.pool.num_idle() + self.recent.lock().len();
        (self.pool.size(), u32::try_from(idle).unwrap_or(u32::MAX))
    }

    /// The most connections, and the longest wait for one.
    pub(super) fn limits(&self) -> (u32, Duration) {
        let options = self.pool.options();
        (options.get_max_connections(), options.get_acquire_timeout())
    }

    /// A connection; one that was used a moment ago, if there is one. `PoolTimedOut` if there is none in time.
    pub(super) async fn acquire(&self) -> sqlx::Result<UsedConnection<'_>> {
        if let Ok(permit) = self.in_use.try_acquire()
            && let Some(recent) = self.take_fresh()
        {
            return Ok(self.used(recent.connection, recent.acquired, permit));
        }
        // Boxed because it is seldom and large.
        Box::pin(self.wait(false)).await
    }

    /// A connection that is opened now.
    pub(super) async fn open(&self) -> sqlx::Result<UsedConnection<'_>> {
        Box::pin(NEW_CONNECTION.scope((), self.wait(true))).await
    }

    async fn wait(&self, new: bool) -> sqlx::Result<UsedConnection<'_>> {
        let (_, limit) = self.limits();
        let waited = timeout(limit, async {
            // The semaphore is never closed.
            let permit = self.in_use.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            if new {
                self.recent.lock().drain(..).for_each(discard);
            } else if let Some(recent) = self.take_recent().await {
                return Ok(self.used(recent.connection, recent.acquired, permit));
            }
            let connection = self.acquire_from_pool().await?;
            Ok(self.used(connection, Instant::now(), permit))
        });
        waited.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn acquire_from_pool(&self) -> sqlx::Result<PoolConnection<Postgres>> {
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

    /// The latest recent connection, if it can be used without a check.
    fn take_fresh(&self) -> Option<Recent> {
        let mut recent = self.recent.lock();
        let is_fresh = |recent: &Recent| recent.is_fresh() && !self.is_outdated(recent);
        recent.last().is_some_and(is_fresh).then(|| recent.pop())?
    }

    /// The latest recent connection that leads to the server of now and answers. The others are closed.
    async fn take_recent(&self) -> Option<Recent> {
        loop {
            let mut recent = self.recent.lock().pop()?;
            if !self.is_outdated(&recent) && (recent.is_fresh() || recent.answers().await) {
                return Some(recent);
            }
            discard(recent);
        }
    }

    fn is_outdated(&self, recent: &Recent) -> bool {
        self.commits.is_outdated(recent.acquired.elapsed())
    }

    /// Takes those that were not used for a while.
    fn take_unused(&self) -> Vec<Recent> {
        let mut recent = self.recent.lock();
        let unused = recent.partition_point(|recent| !recent.is_fresh());
        recent.drain(..unused).collect()
    }

    fn used<'c>(
        &'c self,
        connection: PoolConnection<Postgres>,
        acquired: Instant,
        permit: SemaphorePermit<'c>,
    ) -> UsedConnection<'c> {
        UsedConnection {
            connection,
            acquired,
            connections: self,
            _in_use: permit,
        }
    }
}

impl Recent {
    fn is_fresh(&self) -> bool {
        self.used.elapsed() <= PING_AFTER_IDLE
    }

    async fn answers(&mut self) -> bool {
        does_answer(&mut self.connection).await
    }
}

/// A server that hangs takes the time of one ping for each connection, not that of the caller.
async fn does_answer(connection: &mut PgConnection) -> bool {
    timeout(PING_TIMEOUT, connection.ping())
        .await
        .is_ok_and(|pong| pong.is_ok())
}

/// Gives a connection to the pool, which closes it after a while. The pool sets no time limit for its own check.
async fn give_back(mut recent: Recent) {
    if !recent.answers().await {
        discard(recent);
    }
}

/// Closes a connection without a word, and makes room in the pool at once.
fn discard(recent: Recent) {
    drop(recent.connection.detach());
}

impl Drop for Connections {
    fn drop(&mut self) {
        // The pool would check them in tasks, and the runtime may have ended.
        self.recent.get_mut().drain(..).for_each(discard);
    }
}

impl UsedConnection<'_> {
    /// Ends the use of a connection that has just answered: it can be used again as it is.
    pub(super) fn keep(self) {
        if self.acquired.elapsed() < GIVE_BACK_AFTER {
            let recent = Recent {
                connection: self.connection,
                acquired: self.acquired,
                used: Instant::now(),
            };
            // Before the permit is free.
            self.connections.recent.lock().push(recent);
        }
    }

    /// Closes the connection without a word: the server may still be busy with its statement, or has gone.
    pub(super) fn discard(self) {
        drop(self.connection.detach());
    }
}

impl Deref for UsedConnection<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for UsedConnection<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
