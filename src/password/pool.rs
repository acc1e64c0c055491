//! The hashing pool: a few threads of low priority behind a bounded queue.
//!
//! A hash takes tens of milliseconds of one core and tens of megabytes. Therefore hashes never run on the threads that serve
//! calls, at most `hash_threads` run at once (which bounds the memory), and the bounded queue refuses a flood of logins. No
//! hash is computed for a caller that has gone away or whose deadline has passed.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::hash::{HashParameters, Peppers, ScratchMemory};
use super::policy::{Policy, check_size, check_strength, words};
use super::queue::{PushError, Queue, QueueItem};
use super::verify::PasswordCheck;
use crate::clock::Clock;
use crate::config;
use crate::model::{Error, ErrorKind, Result};
use crate::secret::{Entropy, SecretText};
use crate::spans::SPANS;

/// The niceness of hashing threads. When both need one core, Linux gives such a thread about a tenth of the time of a thread
/// that serves calls.
const NICENESS: i32 = 10;

/// When a refused caller may try again: the time in which a full queue of the default length is processed, roughly.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The hashing threads. Dropping it stops them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The memory of a pool without threads.
    inline: Option<Mutex<ScratchMemory>>,
}

struct Shared {
    queue: Queue<Job>,
    parameters: ArcSwap<HashParameters>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The average time of a check.
    check_micros: AtomicU64,
}

struct Job {
    /// In monotonic time.
    deadline: Duration,
    clock: Arc<dyn Clock>,
    work: Box<dyn Work>,
}

/// A computation with the caller that waits for its result.
trait Work: Send {
    fn is_abandoned(&self) -> bool;
    /// Computes the result, records how long that took, and then answers: after an answer the metric counts it.
    fn run(self: Box<Self>, parameters: &HashParameters, memory: &mut ScratchMemory, clock: &dyn Clock);
}

struct Task<F, T> {
    compute: F,
    reply: oneshot::Sender<Result<T>>,
}

impl Pool {
    /// Starts the hashing threads.
    pub fn start(
        config: &config::Password,
        peppers: Peppers,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        describe_metrics();
        let pool = Self::new(config, peppers, clock, entropy, None);
        for index in 0..config.hash_threads() {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("hash-{index}"));
            let thread = thread.spawn(move || shared.work()).map_err(Error::internal)?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// A pool without threads, which hashes on the thread of its caller: for simulations, in which nothing may depend on the
    /// moment at which another thread runs.
    pub fn inline(
        config: &config::Password,
        peppers: Peppers,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        Ok(Self::new(config, peppers, clock, entropy, Some(Mutex::default())))
    }

    fn new(
        config: &config::Password,
        peppers: Peppers,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        inline: Option<Mutex<ScratchMemory>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Queue::new(config.queue),
            parameters: ArcSwap::from_pointee(HashParameters::new(config, peppers)),
            policy: Policy::new(config),
            clock,
            entropy,
            check_micros: AtomicU64::new(0),
        });
        Self {
            shared,
            threads: Mutex::default(),
            inline,
        }
    }

    /// Checks a new password against the policy. `field` is its path in the request. `context` holds texts that it must not
    /// be made of: user name, e-mail, display name.
    ///
    /// # Errors
    /// `PASSWORD_TOO_WEAK` at `field`, and as [`Pool::verify`].
    pub async fn check(
        &self,
        password: &SecretText,
        field: &'static str,
        context: &[&str],
        deadline: Duration,
    ) -> Result<()> {
        self.shared.policy.check_length(password, field)?;
        let (password, words) = (password.clone(), words(context));
        let compute = move |_: &HashParameters, _: &mut ScratchMemory| check_strength(&password, field, &words);
        self.run(deadline, compute).await
    }

    /// Checks a password against a stored hash. `None` or an empty hash (no such user, no password set) matches no password,
    /// and takes as long as a wrong one.
    ///
    /// `deadline` is in monotonic time.
    ///
    /// # Errors
    /// `OVERLOADED` immediately if the queue is full, `DEADLINE_EXCEEDED`, `SHUTTING_DOWN`, `INVALID_REQUEST` if the
    /// password has more than [`MAX_BYTES`](super::MAX_BYTES).
    pub async fn verify(
        &self,
        stored: Option<SecretText>,
        password: SecretText,
        deadline: Duration,
    ) -> Result<PasswordCheck> {
        check_size(&password, "password")?;
        let shared = Arc::clone(&self.shared);
        let compute = move |parameters: &HashParameters, memory: &mut ScratchMemory| {
            let started = shared.clock.monotonic();
            let check = parameters.verify(stored.as_ref(), &password, memory);
            shared.note_check(shared.clock.monotonic().saturating_sub(started));
            check
        };
        self.run(deadline, compute).await
    }

    /// How long a thread usually works on the check of a password: an average of the latest checks, zero before the first.
    #[must_use]
    pub fn usual_check_time(&self) -> Duration {
        Duration::from_micros(self.shared.check_micros.load(Ordering::Relaxed))
    }

    /// Hashes a password; returns the PHC string to store. Does not check the policy; see [`Pool::check`].
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

    /// Replaces the peppers, from the next hash on.
    pub fn set_peppers(&self, peppers: Peppers) {
        let parameters = self.shared.parameters.load().with_peppers(peppers);
        self.shared.parameters.store(Arc::new(parameters));
    }

    /// The number of callers that wait for a thread.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Stops the threads: refuses waiting jobs and finishes running ones. Blocks for as long as one hash takes.
    pub fn stop(&self) {
        self.shared.queue.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a hashing thread panicked");
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
            return Err(count_refusal("deadline", ErrorKind::DeadlineExceeded.into()));
        }
        if let Some(memory) = &self.inline {
            return compute(&self.shared.parameters.load(), &mut memory.lock());
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
                return Err(count_refusal("full", error));
            }
            Err(PushError::Closed) => return Err(ErrorKind::ShuttingDown.into()),
        }
        let span = tracing::info_span!(target: SPANS, "password hash", otel.kind = "internal");
        match tokio::time::timeout(left, answer).instrument(span).await {
            Ok(Ok(result)) => result,
            // The queue dropped the job: it was obsolete, or the pool stops.
            Ok(Err(_)) if self.shared.clock.monotonic() < deadline => Err(ErrorKind::ShuttingDown.into()),
            Ok(Err(_)) | Err(_) => Err(count_refusal("deadline", ErrorKind::DeadlineExceeded.into())),
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
    /// Adds one check to the average. Each counts an eighth; the first one counts alone.
    fn note_check(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Of two threads at the same time one may be lost.
        let before = self.check_micros.load(Ordering::Relaxed);
        let after = if before == 0 {
            took
        } else {
            (before - before / 8).saturating_add(took / 8)
        };
        self.check_micros.store(after, Ordering::Relaxed);
    }

    fn work(&self) {
        lower_priority();
        let mut memory = ScratchMemory::default();
        while let Some(job) = self.queue.pop() {
            let parameters = self.parameters.load_full();
            job.work.run(&parameters, &mut memory, &*self.clock);
            memory.trim(&parameters);
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

    fn run(self: Box<Self>, parameters: &HashParameters, memory: &mut ScratchMemory, clock: &dyn Clock) {
        let Self { compute, reply } = *self;
        let started = clock.monotonic();
        // A library that panics on some hash must not end the thread.
        let result = catch_unwind(AssertUnwindSafe(|| compute(parameters, memory)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("hashing panicked")));
        let took = clock.monotonic().saturating_sub(started);
        metrics::histogram!("countersign_password_hash_seconds").record(took.as_secs_f64());
        // The caller may have gone away.
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
        "Passwords that were refused unread: the queue was full, or the deadline passed first."
    );
    // Registered before the first login: `rate()` ignores the first sample of a series that begins with it.
    metrics::gauge!("countersign_password_queued").set(0.0);
    drop(metrics::histogram!("countersign_password_hash_seconds"));
}

/// Counts a refused password under `reason`.
fn count_refusal(reason: &'static str, error: Error) -> Error {
    metrics::counter!("countersign_password_refused_total", "reason" => reason).increment(1);
    error
}

fn lower_priority() {
    // On other systems the call would lower the priority of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a hashing thread");
    }
}
