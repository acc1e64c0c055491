//! One run: its time, its randomness, its trace, and what its clients did.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::clock::{Clock, UnixMillis};
use countersign::model::Rotation;
use countersign::model::session::Presented;
use countersign::secret::Entropy;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mutants::Mutant;
use crate::plan::Plan;
use crate::record::Record;
use crate::support::random::Random;

/// When every run begins by the wall clock.
const BEGINNING: i64 = 1_900_000_000_000;

/// One run.
pub(crate) struct Sim {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    start: Instant,
    random: Mutex<Random>,
    trace: Mutex<String>,
    /// Whether there are no new faults.
    calm: AtomicBool,
    /// How many changes of a store will happen although their caller has given up.
    late: AtomicUsize,
}

impl Sim {
    /// With a defect to provoke, the plan is one in which it has an effect.
    pub(crate) fn new(seed: u64, provoked: Option<Mutant>) -> Arc<Self> {
        let mut random = Random::new(seed);
        let plan = Plan::of(&mut random);
        let plan = match provoked {
            Some(mutant) => mutant.provoke(plan),
            None => plan,
        };
        Arc::new(Self {
            plan,
            record: Record::default(),
            start: Instant::now(),
            random: Mutex::new(random),
            trace: Mutex::default(),
            calm: AtomicBool::new(true),
            late: AtomicUsize::new(0),
        })
    }

    /// A generator of its own for a new part of the run.
    pub(crate) fn fork(&self) -> Random {
        let mut random = self.random.lock();
        let n = random.next();
        random.fork(n)
    }

    /// The time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time of the stores.
    pub(crate) fn wall(&self) -> i64 {
        BEGINNING + i64::try_from(self.now().as_millis()).unwrap()
    }

    /// The clock of a machine, which is `offset` milliseconds ahead of the stores.
    pub(crate) fn clock(&self, offset: i64) -> Arc<SimClock> {
        Arc::new(SimClock {
            start: self.start,
            offset: AtomicI64::new(offset),
        })
    }

    pub(crate) fn entropy(&self) -> Arc<dyn Entropy> {
        Arc::new(SeededEntropy(Mutex::new(self.fork())))
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    pub(crate) fn late_begins(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn late_ends(&self) {
        self.late.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a store may still execute a change whose caller has given up.
    pub(crate) fn has_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0
    }

    /// Notes what the store of sessions said about a refresh token, at the moment of its decision.
    pub(crate) fn note_rotation(&self, presented: &Presented, rotation: &Rotation) {
        let session = presented.session;
        if let Rotation::Reused(evidence) = rotation {
            let current = Presented {
                generation: evidence.current,
                ..presented.clone()
            };
            self.record.reused.lock().insert(session, current);
        } else if rotation.success().is_some() && self.record.reused.lock().contains_key(&session) {
            self.record.find(format!(
                "RotatedAfterReuse: session {session}, generation {}",
                presented.generation
            ));
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let now = self.now().as_millis();
        let mut trace = self.trace.lock();
        writeln!(trace, "{now:>6} {}", line()).unwrap();
    }

    pub(crate) fn take_trace(&self) -> String {
        std::mem::take(&mut self.trace.lock())
    }
}

/// The clock of a machine. It shows the time of the run, and may be set.
#[derive(Debug)]
pub(crate) struct SimClock {
    start: Instant,
    offset: AtomicI64,
}

impl SimClock {
    pub(crate) fn set(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        UnixMillis(BEGINNING + elapsed + self.offset.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        // Not zero, which some code takes for "never".
        Duration::from_secs(1_000) + self.start.elapsed()
    }
}

/// Randomness that a seed repeats.
#[derive(Debug)]
struct SeededEntropy(Mutex<Random>);

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        let mut random = self.0.lock();
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
