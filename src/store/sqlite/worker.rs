//! A thread that owns one connection and runs the closures from its bounded queue. In a simulation there is no thread: each
//! closure runs where it is submitted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::database::Tx;
use super::time::StoreTime;
use crate::clock::UnixMillis;
use crate::model::{Error, ErrorKind, Result};

/// The most closures that wait; further ones are refused at once with `OVERLOADED`.
const QUEUE: usize = 1024;

/// The most closures in one commit.
const GROUP: usize = 128;

/// A queued closure, with the channel for its answer.
pub(super) trait Job: Send {
    /// Whether the caller has gone. Checked before the closure runs: it is then left out.
    fn is_abandoned(&self) -> bool;

    /// Runs the closure and returns its error, in which case its changes must be undone.
    fn run(&mut self, tx: &mut Tx<'_>) -> Option<&Error>;

    /// Sends the result of the closure to the caller if the commit succeeded, else the error of the commit.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Closure<F, T> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Job for Closure<F, T>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send,
    T: Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Option<&Error> {
        let work = self.work.take()?;
        // A panic in one closure must not end the thread, which would end the store for all callers.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|_| Err(Error::internal("a transaction panicked")));
        self.outcome.insert(outcome).as_ref().err()
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let outcome = match (self.outcome, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::internal("a transaction was not run")),
        };
        // The caller may have gone meanwhile; the commit stays.
        let _ = self.reply.send(outcome);
    }
}

/// Where the closures run.
#[derive(Debug)]
enum Place {
    /// On the thread of the connection. When the worker is dropped, the thread runs the closures that are queued and ends.
    Thread {
        queue: Option<mpsc::Sender<Box<dyn Job>>>,
        thread: Option<JoinHandle<()>>,
    },
    /// On the thread of the caller, which it blocks.
    Caller {
        connection: Mutex<Connection>,
        time: StoreTime,
    },
}

/// Runs closures on one connection.
#[derive(Debug)]
pub(super) struct Worker(Place);

impl Worker {
    /// Starts the thread that writes: closures that wait at the same time are committed together.
    pub(super) fn writer(mut connection: Connection, time: StoreTime) -> Result<Self> {
        Self::start("sqlite-writer", move |mut queue| {
            while let Some(first) = queue.blocking_recv() {
                let mut group = vec![first];
                while group.len() < GROUP {
                    let Ok(next) = queue.try_recv() else { break };
                    group.push(next);
                }
                group.retain(|job| !job.is_abandoned());
                write(&mut connection, &time, group);
            }
        })
    }

    /// Starts a thread that reads.
    pub(super) fn reader(mut connection: Connection, time: StoreTime) -> Result<Self> {
        Self::start("sqlite-reader", move |mut queue| {
            while let Some(mut job) = queue.blocking_recv() {
                if !job.is_abandoned() {
                    let done = read(&mut connection, &time, job.as_mut());
                    job.answer(done);
                }
            }
        })
    }

    fn start(name: &str, work: impl FnOnce(mpsc::Receiver<Box<dyn Job>>) + Send + 'static) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(receiver))
            .map_err(Error::store_unavailable)?;
        Ok(Self(Place::Thread {
            queue: Some(sender),
            thread: Some(thread),
        }))
    }

    /// A worker that reads and writes on the thread of its caller.
    pub(super) const fn inline(connection: Connection, time: StoreTime) -> Self {
        let connection = Mutex::new(connection);
        Self(Place::Caller { connection, time })
    }

    /// How many closures wait.
    pub(super) fn queued(&self) -> usize {
        match &self.0 {
            Place::Thread { queue: Some(queue), .. } => queue.max_capacity() - queue.capacity(),
            Place::Thread { queue: None, .. } | Place::Caller { .. } => 0,
        }
    }

    /// Queues a closure and returns the channel for its result.
    pub(super) fn submit<T, F>(&self, work: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Closure {
            work: Some(work),
            outcome: None,
            reply,
        });
        let queue = match &self.0 {
            Place::Thread { queue, .. } => queue.as_ref().ok_or_else(|| Error::store_unavailable("closed"))?,
            Place::Caller { connection, time } => {
                write(&mut connection.lock(), time, vec![job]);
                return Ok(answer);
            }
        };
        match queue.try_send(job) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ErrorKind::Overloaded.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::store_unavailable("its thread has ended")),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Place::Thread { queue, thread } = &mut self.0 else {
            return;
        };
        *queue = None;
        if let Some(thread) = thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the thread was answered as an internal error already.
            let _ = thread.join();
        }
    }
}

/// Runs a group of closures in one transaction, each in a savepoint of its own, and sends the answers after the commit.
fn write(connection: &mut Connection, time: &StoreTime, mut group: Vec<Box<dyn Job>>) {
    while !group.is_empty() {
        let mut ran = 0;
        let committed = write_all(connection, time, &mut group, &mut ran);
        if committed.is_err() && !connection.is_autocommit() {
            // If this fails as well, the next BEGIN fails and reports it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        // Jobs that did not run stay queued for the next transaction; if BEGIN failed, all get the error.
        let answered = if ran == 0 { group.len() } else { ran };
        for job in group.drain(..answered) {
            job.answer(committed.clone());
        }
    }
}

fn write_all(connection: &mut Connection, time: &StoreTime, group: &mut [Box<dyn Job>], ran: &mut usize) -> Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let now = now(connection, time)?;
    let before = connection.total_changes();
    for job in group {
        connection.execute_batch("SAVEPOINT one")?;
        *ran += 1;
        if let Some(error) = job.run(&mut Tx::new(connection, now, time)) {
            // After some errors (a full disk) SQLite has rolled back the whole transaction, with the work of other
            // jobs.
            if connection.is_autocommit() {
                return Err(error.clone());
            }
            connection.execute_batch("ROLLBACK TO one")?;
        }
        connection.execute_batch("RELEASE one")?;
    }
    if connection.total_changes() != before {
        connection
            .prepare_cached("UPDATE meta SET clock = ?1 WHERE clock < ?1")?
            .execute([time.capped().0])?;
    }
    Ok(connection.execute_batch("COMMIT")?)
}

/// Runs one closure in a transaction that only reads, so that all its reads are of one moment.
fn read(connection: &mut Connection, time: &StoreTime, job: &mut dyn Job) -> Result<()> {
    connection.execute_batch("BEGIN")?;
    let now = now(connection, time);
    if let Ok(now) = now {
        job.run(&mut Tx::new(connection, now, time));
    }
    connection.execute_batch("ROLLBACK")?;
    now.map(|_| ())
}

/// The time for the rows of a transaction.
fn now(connection: &Connection, time: &StoreTime) -> Result<UnixMillis> {
    let newest = connection
        .prepare_cached("SELECT clock FROM meta")?
        .query_row([], |row| row.get(0))?;
    Ok(time.after(UnixMillis(newest)))
}
