//! Retries: which failures are retried, after what delay, and a budget shared by all calls of a client.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::secret::{Entropy, random};

/// How a client retries failed calls.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The largest number of attempts of one call, including the first.
    pub attempts: u32,
    /// The upper bound of the random delay before the second attempt. It doubles for each further attempt.
    pub base: Duration,
    /// The largest value of that bound. A delay that the service requests comes on top.
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

/// The retry budget of a client: the retry throttling of gRPC (gRFC A6), with ten tokens.
///
/// A failure costs one token and a success returns a tenth; at half or below no call is retried. A failure for which the
/// service requests a delay costs four: then a store of all replicas is down or all replicas are overloaded, so every client
/// fails, and a thousand clients with four retries each would be a storm. A service that is down thus receives hardly more
/// calls than one that is up.
#[derive(Debug)]
pub(super) struct Budget(AtomicI64);

/// The full budget, in tenths of a token.
const FULL: i64 = 100;

impl Budget {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(FULL))
    }

    pub(super) fn record_success(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < FULL).then_some(now + 1)
        });
    }

    /// Spends the cost of a failure; returns whether the call may be retried.
    pub(super) fn spend(&self, status: &Status) -> bool {
        let cost = if affects_all_clients(status) { 40 } else { 10 };
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some((now - cost).max(0)));
        before.unwrap_or(0) - cost > FULL / 2
    }
}

/// Whether a failure affects the clients of all replicas, not only those of one replica.
fn affects_all_clients(status: &Status) -> bool {
    let shuts_down = |info: tonic_types::ErrorInfo| info.reason == "SHUTTING_DOWN";
    requested_delay(status).is_some() && !status.get_details_error_info().is_some_and(shuts_down)
}

/// The delay that the service requests before a retry; `None` if it requests none, or forbids retries.
fn requested_delay(status: &Status) -> Option<Duration> {
    match pushback(status) {
        Pushback::Never => None,
        Pushback::After(delay) => Some(delay),
        Pushback::Unspecified => status.get_details_retry_info().and_then(|info| info.retry_delay),
    }
}

/// The delay before attempt number `attempt` (2 is the first retry); `None` if the call must not be retried after `status`.
pub(super) fn retry_delay(
    policy: &RetryPolicy,
    status: &Status,
    attempt: u32,
    entropy: &dyn Entropy,
) -> Option<Duration> {
    let is_transient = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) || was_cut_off(status);
    if attempt > policy.attempts || !is_transient {
        return None;
    }
    if matches!(pushback(status), Pushback::Never) {
        return None;
    }
    let requested = requested_delay(status);
    // An exhausted resource is retried only if the service requests it.
    if status.code() == Code::ResourceExhausted && requested.is_none() {
        return None;
    }
    let bound = policy
        .base
        .saturating_mul(1 << attempt.saturating_sub(2).min(16))
        .min(policy.ceiling);
    let unit = f64::from(u32::from_be_bytes(random(entropy))) / f64::from(u32::MAX);
    // The jitter is added to the requested delay, so that the clients do not all return at once.
    Some(requested.unwrap_or_default() + bound.mul_f64(unit))
}

/// Whether the connection ended during the call. A replica that shuts down closes the connection, sometimes after a call was
/// accepted for it and before it was sent. Such a status has a source, because no server sent it, and the source is not our
/// own timeout.
fn was_cut_off(status: &Status) -> bool {
    if !matches!(status.code(), Code::Cancelled | Code::Unknown) {
        return false;
    }
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |error| error.source());
    first.is_some() && !causes.any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>)
}

/// What the service says of retries (gRFC A6).
enum Pushback {
    /// The metadata is absent.
    Unspecified,
    After(Duration),
    Never,
}

/// Reads the metadata `grpc-retry-pushback-ms`; any value but a number means never.
fn pushback(status: &Status) -> Pushback {
    match status.metadata().get("grpc-retry-pushback-ms") {
        None => Pushback::Unspecified,
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
        let granted = (0..20).filter(|_| budget.spend(&cut)).count();
        assert_eq!(granted, 4);
        for _ in 0..70 {
            budget.record_success();
        }
        assert!(budget.spend(&cut));
    }

    #[test]
    fn a_failure_of_all_clients_costs_more() {
        let budget = Budget::new();
        let mut down = Status::unavailable("a store cannot be reached");
        down.metadata_mut()
            .insert("grpc-retry-pushback-ms", "1000".parse().unwrap());
        assert_eq!((0..20).filter(|_| budget.spend(&down)).count(), 1);
        for _ in 0..95 {
            budget.record_success();
        }
        assert!(budget.spend(&down), "the budget has filled again");
    }

    #[test]
    fn a_connection_that_ends_during_a_call_is_retried_and_no_refusal_is() {
        let retried = |status: &Status| retry_delay(&RetryPolicy::default(), status, 2, &SystemEntropy).is_some();
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
    fn only_transient_failures_are_retried() {
        let policy = RetryPolicy::default();
        for code in [
            Code::Unauthenticated,
            Code::InvalidArgument,
            Code::Internal,
            Code::DeadlineExceeded,
        ] {
            assert!(
                retry_delay(&policy, &Status::new(code, ""), 2, &SystemEntropy).is_none(),
                "{code:?}"
            );
        }
        assert!(retry_delay(&policy, &Status::unavailable(""), 2, &SystemEntropy).is_some());
        assert!(
            retry_delay(&policy, &Status::unavailable(""), 5, &SystemEntropy).is_none(),
            "attempts run out"
        );
        assert!(retry_delay(&policy, &Status::resource_exhausted(""), 2, &SystemEntropy).is_none());
        let mut told = Status::resource_exhausted("");
        told.metadata_mut()
            .insert("grpc-retry-pushback-ms", "1500".parse().unwrap());
        assert!(retry_delay(&policy, &told, 2, &SystemEntropy).unwrap() >= Duration::from_millis(1500));
        told.metadata_mut()
            .insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert!(retry_delay(&policy, &told, 2, &SystemEntropy).is_none());
    }
}
