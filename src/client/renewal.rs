//! Renewal of tokens before they expire: one caller at a time renews, and the others use the old token while it is valid.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::clock::UnixMillis;
use crate::proto::Tokens;

/// The pause after a failed renewal before expiry.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The times of an access token.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenLifetime {
    refresh_after: UnixMillis,
    expires: UnixMillis,
}

/// Whether an access token must be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenewalState {
    /// Valid, and not yet to be renewed.
    Fresh,
    /// Valid, and to be renewed in the background.
    Due,
    /// No longer valid.
    Expired,
}

impl TokenLifetime {
    /// The times of the access token in a response. Without times the token counts as expired.
    pub(super) fn of(tokens: &Tokens) -> Self {
        Self {
            refresh_after: moment(tokens.refresh_after.as_ref()),
            expires: moment(tokens.access_expires_at.as_ref()),
        }
    }

    pub(super) fn renewal_state(self, now: UnixMillis) -> RenewalState {
        if now >= self.expires {
            RenewalState::Expired
        } else if now >= self.refresh_after {
            RenewalState::Due
        } else {
            RenewalState::Fresh
        }
    }
}

/// Allows one renewal at a time.
#[derive(Debug, Default)]
pub(super) struct RenewalLock {
    lock: Arc<Mutex<()>>,
    /// When the next renewal before expiry may begin, in milliseconds of wall time.
    not_before: AtomicI64,
}

impl RenewalLock {
    /// Acquires the lock for a renewal before expiry; `None` while a renewal runs, and for a moment after a failed one.
    pub(super) fn try_acquire(&self, now: UnixMillis) -> Option<OwnedMutexGuard<()>> {
        if now.0 < self.not_before.load(Ordering::Relaxed) {
            return None;
        }
        self.lock.clone().try_lock_owned().ok()
    }

    /// Waits for the lock. The previous holder may have renewed the token already, so check again.
    pub(super) async fn acquire(&self) -> OwnedMutexGuard<()> {
        self.lock.clone().lock_owned().await
    }

    /// Records that a renewal before expiry failed, which delays the next one.
    pub(super) fn record_failure(&self, now: UnixMillis) {
        self.not_before.store(now.plus(RETRY_PAUSE).0, Ordering::Relaxed);
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
    async fn one_caller_renews_and_a_failure_delays_the_next_renewal() {
        let renewal = RenewalLock::default();
        let now = UnixMillis(10_000);
        let permit = renewal.try_acquire(now).expect("no renewal runs");
        assert!(renewal.try_acquire(now).is_none(), "one at a time");
        renewal.record_failure(now);
        drop(permit);
        assert!(renewal.try_acquire(now).is_none());
        assert!(renewal.try_acquire(now.plus(RETRY_PAUSE)).is_some());
        // A caller without a valid token does not wait for that pause.
        drop(renewal.acquire().await);
    }

    #[test]
    fn a_token_is_fresh_then_due_then_expired() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let lifetime = TokenLifetime::of(&Tokens {
            refresh_after: at(70),
            access_expires_at: at(100),
            ..Tokens::default()
        });
        let renewal_state = |secs| lifetime.renewal_state(UnixMillis::from_secs(secs));
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
                RenewalState::Expired
            ]
        );
        assert_eq!(
            TokenLifetime::of(&Tokens::default()).renewal_state(UnixMillis(0)),
            RenewalState::Expired
        );
    }
}
