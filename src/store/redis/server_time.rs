//! The clock of a server, as its last answer showed it.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::UnixMillis;

/// An older answer says too little: the clock may have been set since.
const MAX_AGE: Duration = Duration::from_mins(10);

/// The last time that a server answered.
#[derive(Debug, Default)]
pub(super) struct ServerTime(Mutex<Option<Answer>>);

#[derive(Clone, Copy, Debug)]
struct Answer {
    time: UnixMillis,
    /// When the call was sent, by the monotonic clock.
    sent: Duration,
}

impl ServerTime {
    /// Notes that the server answered `time` to a call that was sent at `sent` of the monotonic clock.
    pub(super) fn note(&self, time: UnixMillis, sent: Duration) {
        let mut last = self.0.lock();
        if last.is_none_or(|last| last.sent <= sent) {
            *last = Some(Answer { time, sent });
        }
    }

    /// The latest time that its clock may show at `now` of the monotonic clock: the server read it after the call was sent. None if
    /// that is not known.
    pub(super) fn latest_at(&self, now: Duration) -> Option<UnixMillis> {
        let last = (*self.0.lock())?;
        let age = now.saturating_sub(last.sent);
        (age <= MAX_AGE).then(|| last.time.plus(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_tells_the_time_for_a_while() {
        let server = ServerTime::default();
        let second = Duration::from_secs;
        assert_eq!(server.latest_at(second(1)), None);
        server.note(UnixMillis(70_000), second(3));
        server.note(UnixMillis(50_000), second(2));
        assert_eq!(server.latest_at(second(5)), Some(UnixMillis(72_000)));
        assert_eq!(server.latest_at(second(604)), None);
    }
}
