//! Reservations: an attempt is counted before its password is checked.

use std::mem::take;
use std::time::Duration;

use futures_util::future::join_all;

use super::in_flight::{InFlightAttempt, Wakeup, WhenLimited};
use super::{AccountKeys, Attempt, Throttle, throttled};
use crate::model::{Error, ErrorKind, Result};
use crate::store::throttles::{CounterKey, Limit, LimitDecision};

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
    /// `None` if nothing is limited.
    account: Option<AccountKeys>,
    /// The charges under limits that other accounts share.
    shared: Vec<InFlightAttempt>,
    /// The charges under the limits of the account.
    of_account: Vec<InFlightAttempt>,
    limit_state: LimitState,
    /// How long until the limits that other accounts share have room, if this attempt goes on only because the user is
    /// known at the source.
    passed: Option<Duration>,
}

impl Throttle {
    /// Counts an attempt before its password is checked. `deadline` is a moment of the clock's monotonic time.
    ///
    /// # Errors
    /// `THROTTLED` if the limit of the source or the global limit is exceeded and the user is not known at the source: send
    /// it after [`Throttle::hold_refusal`]. `OVERLOADED` if too many attempts wait for the results of others,
    /// `DEADLINE_EXCEEDED` if this one waited until its deadline.
    pub async fn reserve(&self, attempt: &Attempt, deadline: Duration) -> Result<Reservation<'_>> {
        let mut reservation = Reservation {
            throttle: self,
            account: Some(attempt.account).filter(|_| self.config.enabled),
            shared: Vec::new(),
            of_account: Vec::new(),
            limit_state: LimitState::Open,
            passed: None,
        };
        if !self.config.enabled {
            return Ok(reservation);
        }
        match self.count_under_limits(&mut reservation, attempt, deadline).await {
            Ok(()) => Ok(reservation),
            Err(error) => {
                reservation.take_back().await;
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
        let AccountKeys {
            account,
            account_source,
        } = attempt.account;
        // Only the limit of the account from this source stops a user who is known there, so no other limit makes that user
        // wait for room.
        let is_known = self.passwords.is_remembered(account_source).await;
        let wait = |locks: bool| locks.then_some(deadline);
        for (counter, limit) in attempt.shared.into_iter().flatten() {
            match self.count(counter, limit, wait(!is_known)).await? {
                Ok(attempt) => reservation.shared.push(attempt),
                Err(wait) if is_known => reservation.passed = reservation.passed.max(Some(wait)),
                Err(wait) => return Err(throttled("source", wait)),
            }
        }
        let limits = [
            (account, self.account_limit(), !is_known),
            (account_source, self.account_source_limit(), true),
        ];
        for (counter, limit, locks) in limits {
            let waits = locks && reservation.limit_state == LimitState::Open;
            if let Ok(attempt) = self.count(counter, limit, wait(waits)).await? {
                reservation.of_account.push(attempt);
            } else if locks {
                reservation.limit_state = LimitState::Locked;
            }
        }
        match reservation.passed {
            // The hash would only be computed for the time that it takes.
            Some(wait) if reservation.limit_state == LimitState::Locked => Err(throttled("source", wait)),
            _ => Ok(()),
        }
    }

    /// Counts the attempt under one limit, or returns how long until the limit has room. With `wait_until`, it first waits
    /// for the results of attempts in flight, at most until that moment.
    async fn count(
        &self,
        counter: CounterKey,
        limit: Limit,
        wait_until: Option<Duration>,
    ) -> Result<Result<InFlightAttempt, Duration>> {
        let mut attempt = self.in_flight.register(counter);
        loop {
            let wait_time = match self.passwords.try_charge(counter, limit).await {
                (LimitDecision::Allowed(charge), is_shared) => {
                    attempt.counted((charge, is_shared));
                    return Ok(Ok(attempt));
                }
                (LimitDecision::Wait(wait_time), _) => wait_time,
            };
            let Some(deadline) = wait_until else {
                attempt.refused();
                return Ok(Err(wait_time));
            };
            let too_many = || {
                Error::from(ErrorKind::Overloaded)
                    .retry_after(Duration::from_secs(1))
                    .because("too many login attempts wait for the results of others")
            };
            // One account or source takes at most half of the places.
            let wakeup = match attempt.limited(self.config.waiting.div_ceil(2)) {
                WhenLimited::Retry if self.clock.monotonic() < deadline => continue,
                WhenLimited::Retry => return Err(ErrorKind::DeadlineExceeded.into()),
                WhenLimited::UsedUp => return Ok(Err(wait_time)),
                WhenLimited::Crowded => return Err(too_many()),
                WhenLimited::Wait(wakeup) => wakeup,
            };
            let _permit = self.waiting.try_acquire().map_err(|_| too_many())?;
            let left = deadline.saturating_sub(self.clock.monotonic());
            match tokio::time::timeout(left, wakeup).await {
                Ok(Ok(Wakeup::HandedOver(attempt))) => return Ok(Ok(attempt)),
                Ok(Ok(Wakeup::UsedUp)) => return Ok(Err(wait_time)),
                Ok(Ok(Wakeup::Retry) | Err(_)) => attempt = self.in_flight.register(counter),
                Err(_) => return Err(ErrorKind::DeadlineExceeded.into()),
            }
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
        let remember = async {
            if let Some(keys) = self.account {
                self.throttle.passwords.remember(keys.account_source).await;
            }
        };
        let (throttle, shared, of_account) = (self.throttle, take(&mut self.shared), take(&mut self.of_account));
        tokio::join!(give_back(throttle, shared), give_back(throttle, of_account), remember);
    }

    /// The password was wrong, or the account is locked. Returns the error to answer with.
    ///
    /// The charges of a wrong password stay. An attempt at a locked account was no guess, because its answer did not depend
    /// on the password. So it does not count for the account; else a user who keeps trying would extend the lock. It counts
    /// for the source, because it cost a hash.
    pub async fn fail(mut self) -> Error {
        if let Some(keys) = self.account {
            // Both branches take one round trip, so that the time does not reveal whether the account is locked.
            let charges = take(&mut self.of_account);
            if self.limit_state == LimitState::Locked {
                metrics::counter!("countersign_throttled_total", "limit" => "account").increment(1);
            }
            if self.limit_state == LimitState::Locked && !charges.is_empty() {
                give_back(self.throttle, charges).await;
            } else {
                let limit = self.throttle.account_limit();
                self.throttle.passwords.read_for_timing(keys.account, limit).await;
            }
        }
        match self.passed {
            Some(wait) => throttled("source", wait),
            None => ErrorKind::InvalidCredentials.into(),
        }
    }

    /// The password could not be checked because of `error`. Returns the error to answer with. All charges are taken back,
    /// except after `DEADLINE_EXCEEDED`: the password may have been checked, too late to answer.
    pub async fn abandon(mut self, error: Error) -> Error {
        if error.kind != ErrorKind::DeadlineExceeded {
            self.take_back().await;
        }
        match self.passed {
            // Users who are not known at the source get this error, because nothing is checked for them.
            Some(wait) => throttled("source", wait),
            None => error,
        }
    }

    async fn take_back(&mut self) {
        let (shared, of_account) = (take(&mut self.shared), take(&mut self.of_account));
        tokio::join!(give_back(self.throttle, shared), give_back(self.throttle, of_account));
    }
}

/// Hands charges over to attempts that wait for them, or takes them back.
async fn give_back(throttle: &Throttle, charges: Vec<InFlightAttempt>) {
    let refunds = charges.into_iter().map(|mut attempt| async move {
        if let Some((charge, is_shared)) = attempt.hand_over() {
            throttle.passwords.refund(attempt.counter(), charge, is_shared).await;
        }
    });
    join_all(refunds).await;
}
