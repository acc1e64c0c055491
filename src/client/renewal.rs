//! When a token is renewed: ahead of its expiry, by one caller at a time, and unseen by the others while the old one is
//! good.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::clock::UnixMillis;
use crate::proto::Tokens;

/// How long a renewal ahead of time that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The life of an access token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    refresh_after: UnixMillis,
    expires: UnixMillis,
}

/// How a token stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenewalState {
    /// Nothing to do.
    Fresh,
    /// Good, and to be renewed meanwhile.
    Due,
    /// No good any more.
    Over,
}

impl Life {
    /// Of the access token in an answer; one that says nothing of it is over.
    pub(super) fn of(tokens: &Tokens) -> Self {
        Self {
            refresh_after: moment(tokens.refresh_after.as_ref()),
            expires: moment(tokens.access_expires_at.as_ref()),
        }
    }

    pub(super) fn renewal_state(self, now: UnixMillis) -> RenewalState {
        if now >= self.expires {
            RenewalState::Over
        } else if now >= self.refresh_after {
            RenewalState::Due
        } else {
            RenewalState::Fresh
        }
    }
}

/// Whose turn it is to renew.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: Arc<Mutex<()>>,
    not_before: AtomicI64,
}

impl Turns {
    /// The turn, if nobody has it and the last failure is long enough ago: for a renewal ahead of time.
    pub(super) fn free(&self, now: UnixMillis) -> Option<OwnedMutexGuard<()>> {
        if now.0 < self.not_before.load(Ordering::Relaxed) {
            return None;
        }
        self.turn.clone().try_lock_owned().ok()
    }

    /// Waits for the turn; whoever had it before may have done what was to be done.
    pub(super) async fn wait(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// A renewal ahead of time failed: the next is tried a moment later.
    pub(super) fn failed(&self, now: UnixMillis) {
        self.not_before.store(now.plus(PAUSE).0, Ordering::Relaxed);
    }
}

fn moment(time: Option<&prost_types::Timestamp>) -> UnixMillis {
    time.map_or(UnixMillis(0), |t| {
        UnixMillis(t.seconds.saturating_mul(1000) + i64::from(t.nanos / 1_000_000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_renews_and_a_failure_is_left_alone_for_a_moment() {
        let turns = Turns::default();
        let now = UnixMillis(10_000);
        let mine = turns.free(now).expect("nobody renews");
        assert!(turns.free(now).is_none(), "one at a time");
        turns.failed(now);
        drop(mine);
        assert!(turns.free(now).is_none());
        assert!(turns.free(now.plus(PAUSE)).is_some());
        // Who needs a token now does not wait for that.
        drop(turns.wait().await);
    }

    #[test]
    fn a_token_is_fresh_then_due_then_over() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let life = Life::of(&Tokens {
            refresh_after: at(70),
            access_expires_at: at(100),
            ..Tokens::default()
        });
        let renewal_state = |secs| life.renewal_state(UnixMillis::from_secs(secs));
        assert_eq!(
            [
                renewal_state(69),
                renewal_state(70),
                renewal_state(99),
                renewal_state(100)
            ],
            [
                RenewalState::Fresh,
                RenewalState::Due,
                RenewalState::Due,
                RenewalState::Over
            ]
        );
        assert_eq!(
            Life::of(&Tokens::default()).renewal_state(UnixMillis(0)),
            RenewalState::Over
        );
    }
}
