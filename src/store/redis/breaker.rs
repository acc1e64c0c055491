//! A circuit breaker: while Redis does not answer, calls fail at once instead of waiting one timeout each.

use std::time::Duration;

use parking_lot::Mutex;

/// So many calls in a row without an answer open it.
const THRESHOLD: u32 = 5;

/// So long it stays open before one call probes.
pub(super) const COOLDOWN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { unanswered: u32 },
    Open { since: Duration },
    Probing { since: Duration },
}

/// The breaker. Times are of the process's monotonic clock.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

impl Breaker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Closed { unanswered: 0 }))
    }

    /// Whether a call may be made now. After the cool-down one call may, and its outcome decides.
    pub(super) fn admits(&self, now: Duration) -> bool {
        let mut state = self.0.lock();
        match *state {
            State::Closed { .. } => true,
            // A probe that never reported (its task was dropped) does not hold the breaker open for ever.
            State::Open { since } | State::Probing { since } if now.saturating_sub(since) >= COOLDOWN => {
                *state = State::Probing { since: now };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    /// Notes that a call was answered, with whatever answer.
    pub(super) fn answered(&self) {
        *self.0.lock() = State::Closed { unanswered: 0 };
    }

    /// Notes that a call was not answered. True if this opened the breaker.
    pub(super) fn unanswered(&self, now: Duration) -> bool {
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

    fn opened() -> Breaker {
        let breaker = Breaker::new();
        for n in 1..=THRESHOLD {
            assert!(breaker.admits(NOW));
            assert_eq!(breaker.unanswered(NOW), n == THRESHOLD);
        }
        breaker
    }

    #[test]
    fn opens_after_calls_in_a_row_without_an_answer() {
        let breaker = Breaker::new();
        for _ in 0..20 {
            breaker.unanswered(NOW);
            breaker.answered();
        }
        assert!(breaker.admits(NOW), "they were not in a row");
        assert!(!opened().admits(NOW));
    }

    #[test]
    fn one_probe_decides_after_the_cool_down() {
        let breaker = opened();
        assert!(!breaker.admits(NOW + COOLDOWN / 2));
        let later = NOW + COOLDOWN;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "one probe at a time");
        assert!(!breaker.unanswered(later));
        assert!(!breaker.admits(later), "the probe was not answered");
        assert!(breaker.admits(later + COOLDOWN));
        breaker.answered();
        assert!(breaker.admits(later + COOLDOWN) && breaker.admits(later + COOLDOWN));
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let breaker = opened();
        assert!(breaker.admits(NOW + COOLDOWN));
        assert!(breaker.admits(NOW + COOLDOWN * 2));
    }

    #[test]
    fn late_reports_do_not_prolong_it() {
        let breaker = opened();
        breaker.unanswered(NOW + COOLDOWN / 2);
        assert!(breaker.admits(NOW + COOLDOWN));
    }
}
