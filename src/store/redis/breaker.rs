//! A circuit breaker: while Redis does not answer, calls fail at once instead of waiting for one timeout each.

use std::time::Duration;

use parking_lot::Mutex;

/// The breaker opens after this many calls in a row without an answer.
const THRESHOLD: u32 = 5;

/// How long the breaker stays open before it lets one call through as a probe.
pub(super) const COOLDOWN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { unanswered: u32 },
    Open { since: Duration },
    Probing { since: Duration },
}

/// The breaker of one connection. Times are of the process's monotonic clock.
#[derive(Debug)]
pub(super) struct CircuitBreaker(Mutex<State>);

impl CircuitBreaker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Closed { unanswered: 0 }))
    }

    /// Whether a call may be made now. After the cool-down one call may, as a probe; its outcome closes the breaker or
    /// opens it again.
    pub(super) fn allows_call(&self, now: Duration) -> bool {
        let mut state = self.0.lock();
        match *state {
            State::Closed { .. } => true,
            // A probe may never report, if its task was dropped: after another cool-down the next call is the probe.
            State::Open { since } | State::Probing { since } if now.saturating_sub(since) >= COOLDOWN => {
                *state = State::Probing { since: now };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    /// Records that a call was answered, even if the answer was an error.
    pub(super) fn record_answer(&self) {
        *self.0.lock() = State::Closed { unanswered: 0 };
    }

    /// Records that a call was not answered. Returns true if this opened the breaker.
    pub(super) fn record_no_answer(&self, now: Duration) -> bool {
        let mut state = self.0.lock();
        match *state {
            State::Closed { unanswered } if unanswered + 1 < THRESHOLD => {
                *state = State::Closed {
                    unanswered: unanswered + 1,
                };
                false
            }
            State::Closed { .. } => {
                *state = State::Open { since: now };
                true
            }
            State::Probing { .. } => {
                *state = State::Open { since: now };
                false
            }
            State::Open { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn open_breaker() -> CircuitBreaker {
        let breaker = CircuitBreaker::new();
        for n in 1..=THRESHOLD {
            assert!(breaker.allows_call(NOW));
            assert_eq!(breaker.record_no_answer(NOW), n == THRESHOLD);
        }
        breaker
    }

    #[test]
    fn opens_after_calls_in_a_row_without_an_answer() {
        let breaker = CircuitBreaker::new();
        for _ in 0..20 {
            breaker.record_no_answer(NOW);
            breaker.record_answer();
        }
        assert!(breaker.allows_call(NOW), "the unanswered calls were not in a row");
        assert!(!open_breaker().allows_call(NOW));
    }

    #[test]
    fn one_probe_decides_after_the_cool_down() {
        let breaker = open_breaker();
        assert!(!breaker.allows_call(NOW + COOLDOWN / 2));
        let later = NOW + COOLDOWN;
        assert!(breaker.allows_call(later));
        assert!(!breaker.allows_call(later), "one probe at a time");
        assert!(!breaker.record_no_answer(later));
        assert!(!breaker.allows_call(later), "the probe was not answered");
        assert!(breaker.allows_call(later + COOLDOWN));
        breaker.record_answer();
        assert!(breaker.allows_call(later + COOLDOWN) && breaker.allows_call(later + COOLDOWN));
    }

    #[test]
    fn after_a_probe_that_never_reports_the_next_call_probes() {
        let breaker = open_breaker();
        assert!(breaker.allows_call(NOW + COOLDOWN));
        assert!(breaker.allows_call(NOW + COOLDOWN * 2));
    }

    #[test]
    fn late_reports_do_not_keep_the_breaker_open() {
        let breaker = open_breaker();
        breaker.record_no_answer(NOW + COOLDOWN / 2);
        assert!(breaker.allows_call(NOW + COOLDOWN));
    }
}
