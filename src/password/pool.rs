//! The hashing pool: a few threads of low priority behind a bounded queue.
//!
//! A hash takes tens of milliseconds of one core and tens of megabytes. So hashes never run on the threads that serve
//! calls, at most `hash_threads` run at a time (which bounds the memory), and a flood of logins is refused at the queue
//! instead of growing without bound. A caller that has gone or whose deadline has passed costs nothing.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::hash::{HashParameters, Peppers, ScratchMemory};
use super::policy::{Policy, check_guessable, check_size, words};
use super::queue::{Queue, PushError, QueueItem};
use super::verify::PasswordCheck;
use crate::clock::Clock;
use crate::config;
use crate::model::{Error, ErrorKind, Result};
use crate::secret::{Entropy, SecretText};
use crate::spans::SPANS;

/// Linux gives a thread of this niceness about a tenth of what it gives one that serves calls, if both want the core.
const NICENESS: i32 = 10;

/// When a refused caller may try again: a full queue of the default length is worked off in about that time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The hashing threads. Dropping it stops them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Queue<Job>,
    parameters: ArcSwap<HashParameters>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

struct Job {
    /// By the clock's monotonic time.
    deadline: Duration,
    clock: Arc<dyn Clock>,
    work: Box<dyn Work>,
}

/// A piece of work together with who waits for it.
trait Work: Send {
    fn is_abandoned(&self) -> bool;
    fn run(self: Box<Self>, parameters: &HashParameters, memory: &mut ScratchMemory);
}

struct Task<F, T> {
    compute: F,
    reply: oneshot::Sender<Result<T>>,
}

impl Pool {
    /// Starts the threads.
    pub fn start(
        config: &config::Password,
        peppers: Peppers,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::new(config.queue),
            parameters: ArcSwap::from_pointee(HashParameters::new(config, peppers)),
            policy: Policy::new(config),
            clock,
            entropy,
        });
        describe_metrics();
        let pool = Self {
            shared,
            threads: Mutex::default(),
        };
        for index in 0..config.hash_threads() {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("hash-{index}"));
            let thread = thread.spawn(move || shared.work()).map_err(Error::internal)?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// Whether a new password is good enough. `field` is its path in the request, `context` what it must not be made of:
    /// user name, e-mail, display name.
    ///
    /// # Errors
    /// `PASSWORD_TOO_WEAK` at the field, and as [`Pool::verify`].
    pub async fn check(
        &self,
        password: &SecretText,
        field: &'static str,
        context: &[&str],
        deadline: Duration,
    ) -> Result<()> {
        self.shared.policy.check_length(password, field)?;
        let (password, words) = (password.clone(), words(context));
        let compute = move |_: &HashParameters, _: &mut ScratchMemory| check_guessable(&password, field, &words);
        self.run(deadline, compute).await
    }

    /// Whether the password is the stored one. `None` or an empty text (no such user, no password set) takes as long as
    /// a wrong password and matches nothing.
    ///
    /// `deadline` is a moment of the clock's monotonic time.
    ///
    /// # Errors
    /// `OVERLOADED` at once if the queue is full, `DEADLINE_EXCEEDED`, `SHUTTING_DOWN`, `INVALID_REQUEST` if the
    /// password is over [`MAX_BYTES`](super::MAX_BYTES).
    pub async fn verify(
        &self,
        stored: Option<SecretText>,
        password: SecretText,
        deadline: Duration,
    ) -> Result<PasswordCheck> {
        check_size(&password, "password")?;
        let compute = move |parameters: &HashParameters, memory: &mut ScratchMemory| {
            parameters.verify(stored.as_ref(), &password, memory)
        };
        self.run(deadline, compute).await
    }

    /// The PHC string of a password, for the store. Whether it is good enough was asked of the policy before.
    ///
    /// # Errors
    /// As [`Pool::verify`].
    pub async fn hash(&self, password: SecretText, deadline: Duration) -> Result<SecretText> {
        check_size(&password, "password")?;
        let entropy = Arc::clone(&self.shared.entropy);
        let compute = move |parameters: &HashParameters, memory: &mut ScratchMemory| {
            parameters.hash(&password, entropy.as_ref(), memory)
        };
        self.run(deadline, compute).await
    }

    /// Uses these peppers from the next hash on.
    pub fn set_peppers(&self, peppers: Peppers) {
        let parameters = self.shared.parameters.load().with_peppers(peppers);
        self.shared.parameters.store(Arc::new(parameters));
    }

    /// How many callers wait for a thread.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Refuses what waits and waits for what is being hashed. Blocks for as long as one hash takes.
    pub fn stop(&self) {
        self.shared.queue.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a hashing thread had panicked");
            }
        }
    }

    pub(super) async fn run<T, F>(&self, deadline: Duration, compute: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&HashParameters, &mut ScratchMemory) -> Result<T> + Send + 'static,
    {
        let left = deadline.saturating_sub(self.shared.clock.monotonic());
        if left.is_zero() {
            return Err(refused("deadline", ErrorKind::DeadlineExceeded.into()));
        }
        let (reply, answer) = oneshot::channel();
        let job = Job {
            deadline,
            clock: Arc::clone(&self.shared.clock),
            work: Box::new(Task { compute, reply }),
        };
        match self.shared.queue.push(job) {
            Ok(()) => {}
            Err(PushError::Full) => {
                let error = Error::from(ErrorKind::Overloaded).retry_after(RETRY_AFTER);
                return Err(refused("full", error));
            }
            Err(PushError::Closed) => return Err(ErrorKind::ShuttingDown.into()),
        }
        let span = tracing::info_span!(target: SPANS, "password hash", otel.kind = "internal");
        match tokio::time::timeout(left, answer).instrument(span).await {
            Ok(Ok(result)) => result,
            // Forgotten unanswered: by the queue as hopeless, or by a pool that stops.
            Ok(Err(_)) if self.shared.clock.monotonic() < deadline => Err(ErrorKind::ShuttingDown.into()),
            Ok(Err(_)) | Err(_) => Err(refused("deadline", ErrorKind::DeadlineExceeded.into())),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self) {
        lower_priority();
        let mut memory = ScratchMemory::default();
        while let Some(job) = self.queue.pop() {
            let (parameters, started) = (self.parameters.load_full(), self.clock.monotonic());
            job.work.run(&parameters, &mut memory);
            memory.trim(&parameters);
            let took = self.clock.monotonic().saturating_sub(started);
            metrics::histogram!("countersign_password_hash_seconds").record(took.as_secs_f64());
        }
    }
}

impl QueueItem for Job {
    fn is_obsolete(&self) -> bool {
        self.work.is_abandoned() || self.clock.monotonic() >= self.deadline
    }
}

impl<F, T> Work for Task<F, T>
where
    T: Send,
    F: FnOnce(&HashParameters, &mut ScratchMemory) -> Result<T> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>, parameters: &HashParameters, memory: &mut ScratchMemory) {
        let Self { compute, reply } = *self;
        // A library that panics on some hash must not take the thread with it.
        let result = catch_unwind(AssertUnwindSafe(|| compute(parameters, memory)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("hashing panicked")));
        // Nobody may be waiting any more.
        let _ = reply.send(result);
    }
}

fn describe_metrics() {
    use metrics::Unit;
    metrics::describe_gauge!(
        "countersign_password_queued",
        "Logins and new passwords that wait for a hashing thread."
    );
    metrics::describe_histogram!(
        "countersign_password_hash_seconds",
        Unit::Seconds,
        "How long a hashing thread worked on one password."
    );
    metrics::describe_counter!(
        "countersign_password_refused_total",
        "Passwords that were not looked at: the queue was full, or the deadline passed first."
    );
    // They are there before the first login: what is born with a sample hides it.
    metrics::gauge!("countersign_password_queued").set(0.0);
    drop(metrics::histogram!("countersign_password_hash_seconds"));
}

fn refused(reason: &'static str, error: Error) -> Error {
    metrics::counter!("countersign_password_refused_total", "reason" => reason).increment(1);
    error
}

fn lower_priority() {
    // Elsewhere the call would lower the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the priority of a hashing thread could not be lowered");
    }
}
