//! Reservations: an attempt is counted before its password is checked.

use std::time::Duration;

use futures_util::future::join_all;

use super::in_flight::{InFlightAttempt, Wakeup, WhenLimited};
use super::{AccountKeys, Attempt, Throttle};
use crate::model::{Error, ErrorKind, Result};
use crate::store::throttles::{Charge, CounterKey, Limit, LimitDecision};

/// How long a source is remembered for an account after a successful login.
const KNOWN_SOURCE_TTL: Duration = Duration::from_hours(30 * 24);

/// The state of an attempt's limits before its password is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitState {
    /// The limits have room: the attempt may succeed.
    Open,
    /// A limit is exceeded: the attempt is answered like a wrong password, even if the password is right.
    Locked,
}

/// An attempt in flight, with its charges. If it is dropped (the caller went away), it counts as a failure.
#[derive(Debug)]
pub struct Reservation<'t> {
    throttle: &'t Throttle,
    account: Option<AccountKeys>,
    counted: Vec<InFlightAttempt>,
    /// The limits that had no room for this attempt.
    exceeded: Vec<(CounterKey, Limit)>,
    limit_state: LimitState,
}

/// How long an attempt may wait for the results of attempts in flight.
#[derive(Clone, Copy)]
struct WaitPolicy {
    /// A moment of the clock's monotonic time.
    deadline: Duration,
    /// Whether the waiting attempt counts towards [`super::ThrottleConfig::waiting`].
    is_bounded: bool,
}

impl Throttle {
    /// Counts an attempt before its password is checked. `deadline` is a moment of the clock's monotonic time.
    ///
    /// # Errors
    /// `THROTTLED` if the limit of the source or the global limit is exceeded. `OVERLOADED` if too many attempts wait for
    /// the results of others, `DEADLINE_EXCEEDED` if this one waited until its deadline.
    pub async fn reserve(&self, attempt: &Attempt, deadline: Duration) -> Result<Reservation<'_>> {
        let mut reservation = Reservation {
            throttle: self,
            account: attempt.account.filter(|_| self.config.enabled),
            counted: Vec::new(),
            exceeded: Vec::new(),
            limit_state: LimitState::Open,
        };
        if !self.config.enabled {
            return Ok(reservation);
        }
        match self.count_under_limits(&mut reservation, attempt, deadline).await {
            Ok(()) => Ok(reservation),
            Err(error) => {
                reservation.cancel().await;
                Err(error)
            }
        }
    }

    /// Counts the attempt under one limit after another. The order is always the same, so that two attempts never wait
    /// for each other.
    async fn count_under_limits(
        &self,
        reservation: &mut Reservation<'_>,
        attempt: &Attempt,
        deadline: Duration,
    ) -> Result<()> {
        let wait = Some(WaitPolicy {
            deadline,
            is_bounded: attempt.hashes,
        });
        let shared = [
            (attempt.global, self.global_limit()),
            (attempt.source, Some(self.source_limit())),
        ];
        for (counter, limit) in shared {
            let (Some(counter), Some(limit)) = (counter, limit) else {
                continue;
            };
            match self.count(counter, limit, wait).await? {
                Ok(attempt) => reservation.counted.push(attempt),
                Err(wait) => return Err(Error::from(ErrorKind::Throttled).retry_after(wait)),
            }
        }
        let Some(AccountKeys {
            account,
            account_source,
        }) = attempt.account
        else {
            return Ok(());
        };
        let is_known_source = self.is_remembered(account_source).await;
        let limits = [
            // The account's limit does not lock known sources, so they need not wait for room under it either.
            (account, self.account_limit(), !is_known_source),
            (account_source, self.account_source_limit(), true),
        ];
        for (counter, limit, locks) in limits {
            let waits = locks && reservation.limit_state == LimitState::Open;
            if let Ok(attempt) = self.count(counter, limit, wait.filter(|_| waits)).await? {
                reservation.counted.push(attempt);
                continue;
            }
            reservation.exceeded.push((counter, limit));
            if locks {
                reservation.limit_state = LimitState::Locked;
            }
        }
        Ok(())
    }

    /// Counts the attempt under one limit, or returns how long until the limit has room. With a `wait` policy, it first
    /// waits for the results of attempts in flight.
    async fn count(
        &self,
        counter: CounterKey,
        limit: Limit,
        wait: Option<WaitPolicy>,
    ) -> Result<Result<InFlightAttempt, Duration>> {
        let mut attempt = self.in_flight.register(counter);
        loop {
            let wait_time = match self.try_charge(counter, limit).await {
                (LimitDecision::Allowed(charge), is_shared) => {
                    attempt.counted = Some((charge, is_shared));
                    return Ok(Ok(attempt));
                }
                (LimitDecision::Wait(wait_time), _) => wait_time,
            };
            let Some(WaitPolicy { deadline, is_bounded }) = wait else {
                return Ok(Err(wait_time));
            };
            let wakeup = match attempt.limited() {
                WhenLimited::Retry => continue,
                WhenLimited::UsedUp => return Ok(Err(wait_time)),
                WhenLimited::Wait(wakeup) => wakeup,
            };
            let _permit = if is_bounded {
                Some(self.waiting.try_acquire().map_err(|_| {
                    Error::from(ErrorKind::Overloaded)
                        .retry_after(Duration::from_secs(1))
                        .because("too many login attempts wait for the results of others")
                })?)
            } else {
                None
            };
            let left = deadline.saturating_sub(self.clock.monotonic());
            match tokio::time::timeout(left, wakeup).await {
                Ok(Ok(Wakeup::HandedOver(attempt))) => return Ok(Ok(attempt)),
                Ok(Ok(Wakeup::Retry) | Err(_)) => attempt = self.in_flight.register(counter),
                Err(_) => return Err(ErrorKind::DeadlineExceeded.into()),
            }
        }
    }

    /// Counts one attempt if the limit allows one. Also returns whether the shared store decided.
    async fn try_charge(&self, counter: CounterKey, limit: Limit) -> (LimitDecision, bool) {
        // What this replica counted alone while the shared store was out of reach still counts.
        let local_wait = self.local.wait_time(counter, limit).await.unwrap_or_default();
        if let Some(shared) = &self.shared {
            match shared.try_charge(counter, limit).await {
                Ok(LimitDecision::Allowed(charge)) if !local_wait.is_zero() => {
                    self.refund(counter, charge, true).await;
                    return (LimitDecision::Wait(local_wait), true);
                }
                Ok(decision) => return (decision, true),
                Err(_) => {}
            }
        }
        // The local counters cannot fail.
        let decision = self.local.try_charge(counter, limit).await;
        (decision.unwrap_or(LimitDecision::Allowed(Charge::default())), false)
    }

    async fn refund(&self, counter: CounterKey, charge: Charge, is_shared: bool) {
        let refunded = match &self.shared {
            Some(store) if is_shared => store.refund(counter, charge).await,
            _ => self.local.refund(counter, charge).await,
        };
        if let Err(error) = refunded {
            // Harmless: the charge expires like that of a failure.
            tracing::debug!(%error, "cannot refund a successful login attempt; it counts as a failure");
        }
    }

    async fn charge(&self, counter: CounterKey, limit: Limit) {
        if let Some(shared) = &self.shared
            && shared.charge(counter, limit).await.is_ok()
        {
            return;
        }
        drop(self.local.charge(counter, limit).await);
    }

    async fn remember(&self, key: CounterKey) {
        if let Some(shared) = &self.shared
            && shared.remember(key, KNOWN_SOURCE_TTL).await.is_ok()
        {
            return;
        }
        drop(self.local.remember(key, KNOWN_SOURCE_TTL).await);
    }

    async fn is_remembered(&self, key: CounterKey) -> bool {
        if let Some(shared) = &self.shared
            && shared.is_remembered(key).await.unwrap_or(false)
        {
            return true;
        }
        self.local.is_remembered(key).await.unwrap_or(false)
    }

    /// Reads a counter and ignores it, to take as long as [`Self::charge`].
    async fn read_for_timing(&self, counter: CounterKey, limit: Limit) {
        match &self.shared {
            Some(shared) => drop(shared.wait_time(counter, limit).await),
            None => drop(self.local.wait_time(counter, limit).await),
        }
    }
}

impl Reservation<'_> {
    /// Whether the attempt may succeed.
    #[must_use]
    pub const fn limit_state(&self) -> LimitState {
        self.limit_state
    }

    /// The password was right: all charges are taken back, and the source is remembered for the account.
    pub async fn succeed(mut self) {
        let counted = std::mem::take(&mut self.counted);
        let remember = async {
            if let Some(keys) = self.account {
                self.throttle.remember(keys.account_source).await;
            }
        };
        tokio::join!(self.give_back(counted), remember);
    }

    /// The password was wrong: the charges stay. Limits that were exceeded are charged as well, so that hammering
    /// lengthens the wait.
    pub async fn fail(self) {
        if !self.exceeded.is_empty() {
            join_all(
                self.exceeded
                    .iter()
                    .map(|(counter, limit)| self.throttle.charge(*counter, *limit)),
            )
            .await;
        } else if let Some(keys) = self.account {
            // Both branches take one round trip, so that the time does not reveal whether the account is locked.
            let limit = self.throttle.account_limit();
            self.throttle.read_for_timing(keys.account, limit).await;
        }
    }

    /// The password was not checked: all charges are taken back.
    pub async fn cancel(mut self) {
        let counted = std::mem::take(&mut self.counted);
        self.give_back(counted).await;
    }

    async fn give_back(&self, counted: Vec<InFlightAttempt>) {
        let refunds = counted.into_iter().map(|mut attempt| async move {
            if let Some((charge, is_shared)) = attempt.hand_over() {
                self.throttle.refund(attempt.counter(), charge, is_shared).await;
            }
        });
        join_all(refunds).await;
    }
}
