//! When to try again, and when to stop: a budget for all calls of a client, and delays that do not march in step.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::secret::{Entropy, random};

/// How a client tries again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The most attempts of one call, the first included.
    pub attempts: u32,
    /// The delay before the second attempt, on average half of it; doubles for each further one.
    pub base: Duration,
    /// The longest delay that the client chooses by itself.
    pub ceiling: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_millis(100),
            ceiling: Duration::from_secs(2),
        }
    }
}

/// How many failures a client pays for before it stops trying again: the retry throttling of gRPC (gRFC A6).
///
/// Each failure takes one, each success gives a tenth; below half nothing is tried again. A failure of which the service
/// itself says when to come back takes four: a store of all replicas is down, or all have too much to do, and every client
/// meets the same, so that a thousand of them with four repetitions each would be the storm. A service that is down thus sees
/// hardly more calls than one that is up.
#[derive(Debug)]
pub(super) struct Budget(AtomicI64);

/// In tenths.
const FULL: i64 = 100;

impl Budget {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(FULL))
    }

    pub(super) fn succeeded(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < FULL).then_some(now + 1)
        });
    }

    /// Pays for a failure; whether the call may be tried again.
    pub(super) fn failed(&self, status: &Status) -> bool {
        let price = if is_everywhere(status) { 40 } else { 10 };
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some((now - price).max(0)));
        before.unwrap_or(0) - price > FULL / 2
    }
}

/// Whether every client meets it now, and not only those of one replica.
fn is_everywhere(status: &Status) -> bool {
    let leaves = |info: tonic_types::ErrorInfo| info.reason == "SHUTTING_DOWN";
    told(status).is_some() && !status.get_details_error_info().is_some_and(leaves)
}

/// When the service says to come back, if it wants that at all.
fn told(status: &Status) -> Option<Duration> {
    match pushback(status) {
        Pushback::Never => None,
        Pushback::After(delay) => Some(delay),
        Pushback::Silent => status.get_details_retry_info().and_then(|info| info.retry_delay),
    }
}

/// How long to wait before attempt number `attempt` (the second is 2), if `status` is worth another one at all.
pub(super) fn delay(policy: &RetryPolicy, status: &Status, attempt: u32, entropy: &dyn Entropy) -> Option<Duration> {
    let better_later = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) || cut_off(status);
    if attempt > policy.attempts || !better_later {
        return None;
    }
    if matches!(pushback(status), Pushback::Never) {
        return None;
    }
    let told = told(status);
    // Without a word from the service, an exhausted resource is not hammered.
    if status.code() == Code::ResourceExhausted && told.is_none() {
        return None;
    }
    let grown = policy
        .base
        .saturating_mul(1 << attempt.saturating_sub(2).min(16))
        .min(policy.ceiling);
    let unit = f64::from(u32::from_be_bytes(random(entropy))) / f64::from(u32::MAX);
    // What the service asks for is the least; the jitter comes on top, so that a fleet does not return at once.
    Some(told.unwrap_or_default() + grown.mul_f64(unit))
}

/// Whether the connection ended under the call: a replica that goes away closes it, now and then between the moment
/// when a call is taken on and the one when it would be sent. No server said so, which its source tells, nor did we give up.
fn cut_off(status: &Status) -> bool {
    if !matches!(status.code(), Code::Cancelled | Code::Unknown) {
        return false;
    }
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |error| error.source());
    first.is_some() && !causes.any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>)
}

enum Pushback {
    Silent,
    After(Duration),
    Never,
}

/// What the metadata `grpc-retry-pushback-ms` says; anything but a number means never.
fn pushback(status: &Status) -> Pushback {
    match status.metadata().get("grpc-retry-pushback-ms") {
        None => Pushback::Silent,
        Some(value) => match value.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(millis) => Pushback::After(Duration::from_millis(millis)),
            None => Pushback::Never,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    #[test]
    fn a_budget_runs_out_under_failures_and_fills_with_successes() {
        let budget = Budget::new();
        let cut = Status::unavailable("the connection broke");
        let granted = (0..20).filter(|_| budget.failed(&cut)).count();
        assert_eq!(granted, 4);
        for _ in 0..70 {
            budget.succeeded();
        }
        assert!(budget.failed(&cut));
    }

    #[test]
    fn what_all_clients_meet_is_paid_for_dearly() {
        let budget = Budget::new();
        let mut down = Status::unavailable("a store cannot be reached");
        down.metadata_mut()
            .insert("grpc-retry-pushback-ms", "1000".parse().unwrap());
        assert_eq!((0..20).filter(|_| budget.failed(&down)).count(), 1);
        for _ in 0..95 {
            budget.succeeded();
        }
        assert!(budget.failed(&down), "what works again may fail again");
    }

    #[test]
    fn a_connection_that_ends_under_a_call_is_tried_again_and_nobodys_refusal() {
        let retried = |status: &Status| delay(&RetryPolicy::default(), status, 2, &SystemEntropy).is_some();
        let closed = Status::from_error(Box::new(std::io::Error::other("connection closed")));
        assert!(retried(&closed), "{closed:?}");
        for refusal in [
            Status::cancelled("by the server"),
            Status::unknown("by the server"),
            Status::from_error(Box::new(tonic::TimeoutExpired(()))),
        ] {
            assert!(!retried(&refusal), "{refusal:?}");
        }
    }

    #[test]
    fn only_what_can_get_better_is_tried_again() {
        let policy = RetryPolicy::default();
        for code in [
            Code::Unauthenticated,
            Code::InvalidArgument,
            Code::Internal,
            Code::DeadlineExceeded,
        ] {
            assert!(
                delay(&policy, &Status::new(code, ""), 2, &SystemEntropy).is_none(),
                "{code:?}"
            );
        }
        assert!(delay(&policy, &Status::unavailable(""), 2, &SystemEntropy).is_some());
        assert!(
            delay(&policy, &Status::unavailable(""), 5, &SystemEntropy).is_none(),
            "attempts run out"
        );
        assert!(delay(&policy, &Status::resource_exhausted(""), 2, &SystemEntropy).is_none());
        let mut told = Status::resource_exhausted("");
        told.metadata_mut()
            .insert("grpc-retry-pushback-ms", "1500".parse().unwrap());
        assert!(delay(&policy, &told, 2, &SystemEntropy).unwrap() >= Duration::from_millis(1500));
        told.metadata_mut()
            .insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert!(delay(&policy, &told, 2, &SystemEntropy).is_none());
    }
}
