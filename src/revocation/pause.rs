//! Noticing that this process stood still, because it was stopped or its machine was suspended, or that its tasks had to wait.
//! Calls that waited meanwhile must not be answered from what was known before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::{Clock, ClockReading, UnixMillis};

/// The longest time between two ticks.
const LONGEST_TICK: Duration = Duration::from_millis(250);

/// A longer pause may outlast the patience of callers: they repeat their calls elsewhere, and what they go on with may be older than
/// the call that waits here. Shorter ones are usual on a machine that is very busy.
const LONG: Duration = Duration::from_secs(2);

/// For how long after a long pause a call may be one that waited for its end. The calls that wait in sockets are read as soon as
/// the process goes on; this leaves time for a busy machine.
const AFTERMATH: Duration = Duration::from_secs(5);

/// For how long after a pause a question for the revocations settles nothing if it fails: the connection may have broken during the
/// pause.
const FIRST_FAILURES: Duration = Duration::from_secs(1);

/// Notices pauses by a tick: when the last one is too old, whatever makes the ticks stood still since. A thread of its own
/// stands still with the whole process only; a task also when the process is too busy to run its tasks. A pause is pending until
/// it is settled: until the revocations were read by a question that was sent after it, or could not be read for a second.
///
/// The tick is looked at by every call that needs it, so it does not matter whether a call or the ticker runs first after a
/// pause. Both clocks count, because the monotonic one may stand still while a machine is suspended.
#[derive(Debug)]
pub struct PauseDetector {
    /// A longer time between two ticks is a pause.
    longest: Duration,
    /// Whether ticks are made: before, there are no pauses.
    is_ticking: AtomicBool,
    /// Whether a thread makes them.
    has_thread: AtomicBool,
    /// The last tick by the wall clock, in Unix milliseconds.
    wall: AtomicI64,
    /// The last tick by the monotonic clock, in milliseconds.
    monotonic: AtomicU64,
    /// Whether a pause was noticed that is not settled.
    is_pending: AtomicBool,
    /// How many pauses were noticed.
    noticed: watch::Sender<u64>,
    /// How many of them are settled.
    settled: watch::Sender<u64>,
    /// Held while the numbers or the tick change.
    last: Mutex<LastPauses>,
}

/// When the last pauses were noticed, by the monotonic clock.
#[derive(Debug, Default)]
struct LastPauses {
    of_any_length: Option<Duration>,
    long: Option<Duration>,
}

impl PauseDetector {
    /// A detector of pauses that are longer than `longest`, which makes no ticks yet.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self {
            longest,
            is_ticking: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            wall: AtomicI64::new(0),
            monotonic: AtomicU64::new(0),
            is_pending: AtomicBool::new(false),
            noticed: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            last: Mutex::default(),
        }
    }

    /// Whether a pause is pending at `now`: noticed or not.
    #[must_use]
    pub fn is_pending(&self, now: ClockReading) -> bool {
        // The tick first: the one that follows a pause is stored after the pause is marked as pending.
        self.is_overdue(now) || self.is_pending.load(Ordering::Acquire)
    }

    /// Whether a call that is worked on at `now` may have waited for the end of a long pause, so that its caller has long gone on
    /// elsewhere.
    #[must_use]
    pub fn is_after_long(&self, now: ClockReading) -> bool {
        // In this order, as in `is_pending`.
        self.since_tick(now) > LONG
            || self
                .last
                .lock()
                .long
                .is_some_and(|noticed| now.monotonic.saturating_sub(noticed) < AFTERMATH)
    }

    fn is_overdue(&self, now: ClockReading) -> bool {
        self.since_tick(now) > self.longest
    }

    /// The time since the last tick; zero before the first.
    fn since_tick(&self, now: ClockReading) -> Duration {
        if !self.is_ticking.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let tick = ClockReading {
            wall: UnixMillis(self.wall.load(Ordering::Acquire)),
            monotonic: Duration::from_millis(self.monotonic.load(Ordering::Acquire)),
        };
        now.since(tick)
    }

    /// Makes a tick at `now`, which notices a pause before it. Returns how many pauses were noticed so far.
    pub fn tick(&self, now: ClockReading) -> u64 {
        let mut last = self.last.lock();
        if self.since_tick(now) > LONG {
            last.long = Some(now.monotonic);
        }
        if self.is_overdue(now) {
            last.of_any_length = Some(now.monotonic);
            self.is_pending.store(true, Ordering::Release);
            self.noticed.send_modify(|pauses| *pauses += 1);
        }
        self.wall.store(now.wall.0, Ordering::Release);
        let monotonic = u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX);
        self.monotonic.store(monotonic, Ordering::Release);
        *self.noticed.borrow()
    }

    /// Settles the first `pauses` pauses.
    pub fn settle(&self, pauses: u64) {
        let _changing = self.last.lock();
        self.settled.send_if_modified(|settled| {
            let is_more = pauses > *settled;
            *settled = pauses.max(*settled);
            is_more
        });
        if *self.settled.borrow() >= *self.noticed.borrow() {
            self.is_pending.store(false, Ordering::Release);
        }
    }

    /// Settles the first `pauses` pauses because a question for the revocations failed, unless it was `sent` right after a pause.
    pub fn give_up(&self, pauses: u64, sent: ClockReading) {
        if !self.is_recent(sent) {
            self.settle(pauses);
        }
    }

    /// Whether a pause was noticed so shortly before `now` that a failure says little.
    #[must_use]
    pub fn is_recent(&self, now: ClockReading) -> bool {
        let noticed = self.last.lock().of_any_length;
        noticed.is_some_and(|noticed| now.monotonic.saturating_sub(noticed) < FIRST_FAILURES)
    }

    /// Waits until the first `pauses` pauses are settled.
    pub async fn until_settled(&self, pauses: u64) {
        // The senders live in `self`, so the channels cannot close while this waits.
        drop(self.settled.subscribe().wait_for(|settled| *settled >= pauses).await);
    }

    /// Waits until more than `pauses` pauses were noticed.
    pub async fn until_noticed_after(&self, pauses: u64) {
        drop(self.noticed.subscribe().wait_for(|noticed| *noticed > pauses).await);
    }

    /// Starts a thread that makes the ticks while this detector is in use. If the system refuses the thread, a task can make them
    /// still: a busy process then takes itself for one that stood still.
    pub fn tick_in_thread(self: &Arc<Self>, clock: Arc<dyn Clock>) {
        self.start(&*clock);
        let (detector, interval) = (Arc::downgrade(self), self.interval());
        let ticks = move || {
            while let Some(detector) = detector.upgrade() {
                detector.tick(clock.read());
                drop(detector);
                std::thread::sleep(interval);
            }
        };
        let thread = std::thread::Builder::new().name("pauses".to_owned()).spawn(ticks);
        match thread {
            Ok(_runs_alone) => self.has_thread.store(true, Ordering::Release),
            Err(error) => tracing::warn!(%error, "no thread can be started to notice pauses of this process"),
        }
    }

    /// Makes ticks for ever, unless a thread makes them.
    pub async fn tick_forever(&self, clock: &dyn Clock) {
        if self.has_thread.load(Ordering::Acquire) {
            return;
        }
        self.start(clock);
        loop {
            tokio::time::sleep(self.interval()).await;
            self.tick(clock.read());
        }
    }

    fn start(&self, clock: &dyn Clock) {
        self.tick(clock.read());
        self.is_ticking.store(true, Ordering::Release);
    }

    fn interval(&self) -> Duration {
        (self.longest / 4).min(LONGEST_TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, monotonic: u64) -> ClockReading {
        ClockReading {
            wall: UnixMillis(wall),
            monotonic: Duration::from_millis(monotonic),
        }
    }

    fn ticking() -> PauseDetector {
        let detector = PauseDetector::new(Duration::from_secs(1));
        assert!(!detector.is_pending(at(1_000_000, 500_000)), "no ticks are made yet");
        detector.tick(at(1_000, 0));
        detector.is_ticking.store(true, Ordering::Release);
        detector
    }

    #[test]
    fn a_call_that_runs_before_the_ticker_sees_the_pause() {
        let detector = ticking();
        assert!(!detector.is_pending(at(2_000, 1_000)), "this long is no pause");
        assert!(detector.is_pending(at(11_000, 10_000)));
        assert!(
            detector.is_pending(at(11_000, 20)),
            "a suspended machine: the monotonic clock stood still"
        );
        assert!(
            detector.is_pending(at(900, 10_000)),
            "the wall clock was set back meanwhile"
        );
    }

    #[test]
    fn a_long_pause_is_remembered_for_some_seconds() {
        let detector = ticking();
        detector.tick(at(2_500, 1_500));
        assert!(!detector.is_after_long(at(3_500, 2_500)), "a short pause");
        assert!(detector.is_after_long(at(6_500, 5_500)), "noticed by the call");
        detector.tick(at(6_500, 5_500));
        for (wall, monotonic) in [(8_000, 7_000), (9_500, 8_500), (11_000, 10_000)] {
            detector.tick(at(wall, monotonic));
        }
        assert!(detector.is_after_long(at(11_000, 10_000)));
        assert!(!detector.is_after_long(at(11_600, 10_600)));
    }

    #[tokio::test]
    async fn a_thread_makes_the_ticks_while_no_task_runs() {
        let detector = Arc::new(PauseDetector::new(Duration::from_secs(1)));
        let clock = Arc::new(crate::clock::SystemClock::new());
        detector.tick_in_thread(clock.clone());
        detector.tick_forever(&*clock).await;
        let first = detector.monotonic.load(Ordering::Acquire);
        // This blocks the only thread of the runtime. Without the other one the test does not end.
        while detector.monotonic.load(Ordering::Acquire) == first {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_call_that_runs_after_the_ticker_sees_the_pause_until_it_is_settled() {
        let detector = ticking();
        let before = detector.tick(at(1_500, 500));
        let after = detector.tick(at(11_500, 10_500));
        assert_eq!((before, after), (0, 1));
        assert!(detector.is_pending(at(11_501, 10_501)));
        detector.settle(before);
        assert!(
            detector.is_pending(at(11_502, 10_502)),
            "a reading that was sent before the pause"
        );
        detector.settle(after);
        assert!(!detector.is_pending(at(11_503, 10_503)));
    }

    #[test]
    fn the_first_failures_after_a_pause_settle_nothing() {
        let detector = ticking();
        let pauses = detector.tick(at(11_500, 10_500));
        for now in [at(11_500, 10_500), at(12_000, 11_000), at(12_499, 11_499)] {
            detector.tick(now);
            detector.give_up(pauses, now);
            assert!(detector.is_pending(now));
        }
        let now = at(12_500, 11_500);
        detector.tick(now);
        detector.give_up(pauses, now);
        assert!(!detector.is_pending(now));
    }
}
