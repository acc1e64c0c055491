//! An attempt under way: counted before it is looked at.

use std::time::Duration;

use futures_util::future::join_all;

use super::line::{NoRoom, Outcome, Slot};
use super::{Attempt, Names, Throttle};
use crate::model::{Error, ErrorKind, Result};
use crate::store::throttles::{Charge, Limit, Take};

/// How long a source is remembered for an account after a right password.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// How an attempt stands before its password is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitState {
    /// It may succeed.
    Open,
    /// It answers like a wrong password whatever the password.
    Locked,
}

/// An attempt under way. Dropped (the caller went away) it counts as a failure.
#[derive(Debug)]
pub struct Reservation<'t> {
    throttle: &'t Throttle,
    account: Option<Names>,
    slots: Vec<Slot>,
    /// The limits that had no room for it.
    past: Vec<([u8; 16], Limit)>,
    limit_state: LimitState,
}

impl Throttle {
    /// Counts an attempt before it is looked at. `deadline` is a moment of the clock's monotonic time.
    ///
    /// # Errors
    /// `THROTTLED` by source or by everybody; `OVERLOADED` or `DEADLINE_EXCEEDED` where too many wait for the outcome of
    /// others, or for too long.
    pub async fn reserve(&self, attempt: &Attempt, deadline: Duration) -> Result<Reservation<'_>> {
        let mut reservation = Reservation {
            throttle: self,
            account: attempt.account.filter(|_| self.config.enabled),
            slots: Vec::new(),
            past: Vec::new(),
            limit_state: LimitState::Open,
        };
        if !self.config.enabled {
            return Ok(reservation);
        }
        match self.fill(&mut reservation, attempt, deadline).await {
            Ok(()) => Ok(reservation),
            Err(error) => {
                reservation.undone().await;
                Err(error)
            }
        }
    }

    /// Takes the limits one after the other, always in this order: two attempts never wait for each other.
    async fn fill(&self, reservation: &mut Reservation<'_>, attempt: &Attempt, deadline: Duration) -> Result<()> {
        let patience = Some((deadline, attempt.hashes));
        let shared = [
            (attempt.everybody, self.global()),
            (attempt.source, Some(self.source())),
        ];
        for (name, limit) in shared {
            let (Some(name), Some(limit)) = (name, limit) else {
                continue;
            };
            match self.slot(name, limit, patience).await? {
                Ok(slot) => reservation.slots.push(slot),
                Err(wait) => return Err(Error::from(ErrorKind::Throttled).retry_after(wait)),
            }
        }
        let Some(Names {
            account,
            account_source,
        }) = attempt.account
        else {
            return Ok(());
        };
        let known = self.remembers(account_source).await;
        let limits = [
            // What holds nobody back need not be waited for.
            (account, self.account(), !known),
            (account_source, self.account_source(), true),
        ];
        for (name, limit, holds) in limits {
            let waits = holds && reservation.limit_state == LimitState::Open;
            if let Ok(slot) = self.slot(name, limit, patience.filter(|_| waits)).await? {
                reservation.slots.push(slot);
                continue;
            }
            reservation.past.push((name, limit));
            if holds {
                reservation.limit_state = LimitState::Locked;
            }
        }
        Ok(())
    }

    /// A place under one limit, or how long until there is one. With `patience` (until when, and whether only so many may)
    /// it waits for the outcome of attempts that are under way.
    async fn slot(
        &self,
        name: [u8; 16],
        limit: Limit,
        patience: Option<(Duration, bool)>,
    ) -> Result<Result<Slot, Duration>> {
        let mut slot = self.lines.join(name);
        loop {
            let wait = match self.take(name, limit).await {
                (Take::Taken(charge), shared) => {
                    slot.counted = Some((charge, shared));
                    return Ok(Ok(slot));
                }
                (Take::Wait(wait), _) => wait,
            };
            let Some((deadline, bounded)) = patience else {
                return Ok(Err(wait));
            };
            let outcome = match slot.no_room() {
                NoRoom::Again => continue,
                NoRoom::UsedUp => return Ok(Err(wait)),
                NoRoom::Wait(outcome) => outcome,
            };
            let _place = if bounded {
                Some(self.waiting.try_acquire().map_err(|_| {
                    Error::from(ErrorKind::Overloaded)
                        .retry_after(Duration::from_secs(1))
                        .because("too many attempts wait for the outcome of others")
                })?)
            } else {
                None
            };
            let left = deadline.saturating_sub(self.clock.monotonic());
            match tokio::time::timeout(left, outcome).await {
                Ok(Ok(Outcome::Yours(slot))) => return Ok(Ok(slot)),
                Ok(Ok(Outcome::Again) | Err(_)) => slot = self.lines.join(name),
                Err(_) => return Err(ErrorKind::DeadlineExceeded.into()),
            }
        }
    }

    /// Counts one attempt if one may be made; whether in the shared store.
    async fn take(&self, name: [u8; 16], limit: Limit) -> (Take, bool) {
        // What this replica counted alone during an outage still counts.
        let alone = self.local.wait(name, limit).await.unwrap_or_default();
        if let Some(shared) = &self.shared {
            match shared.take(name, limit).await {
                Ok(Take::Taken(charge)) if !alone.is_zero() => {
                    self.refund(name, charge, true).await;
                    return (Take::Wait(alone), true);
                }
                Ok(take) => return (take, true),
                Err(_) => {}
            }
        }
        // The local counters cannot fail.
        let take = self.local.take(name, limit).await;
        (take.unwrap_or(Take::Taken(Charge::default())), false)
    }

    async fn refund(&self, name: [u8; 16], charge: Charge, shared: bool) {
        let refunded = match &self.shared {
            // A shared store that cannot be reached forgets it in time.
            Some(store) if shared => store.refund(name, charge).await,
            _ => self.local.refund(name, charge).await,
        };
        if let Err(error) = refunded {
            tracing::debug!(%error, "a good attempt stays counted");
        }
    }

    async fn charge(&self, name: [u8; 16], limit: Limit) {
        if let Some(shared) = &self.shared
            && shared.charge(name, limit).await.is_ok()
        {
            return;
        }
        drop(self.local.charge(name, limit).await);
    }

    async fn remember(&self, name: [u8; 16]) {
        if let Some(shared) = &self.shared
            && shared.remember(name, REMEMBERED).await.is_ok()
        {
            return;
        }
        drop(self.local.remember(name, REMEMBERED).await);
    }

    async fn remembers(&self, name: [u8; 16]) -> bool {
        if let Some(shared) = &self.shared
            && shared.remembers(name).await.unwrap_or(false)
        {
            return true;
        }
        self.local.remembers(name).await.unwrap_or(false)
    }

    /// Looks at a counter and changes nothing.
    async fn look(&self, name: [u8; 16], limit: Limit) {
        match &self.shared {
            Some(shared) => drop(shared.wait(name, limit).await),
            None => drop(self.local.wait(name, limit).await),
        }
    }
}

impl Reservation<'_> {
    /// How it stands.
    #[must_use]
    pub const fn limit_state(&self) -> LimitState {
        self.limit_state
    }

    /// The attempt was good: it counts nowhere, and where it came from is remembered.
    pub async fn succeeded(mut self) {
        let slots = std::mem::take(&mut self.slots);
        let remember = async {
            if let Some(names) = self.account {
                self.throttle.remember(names.account_source).await;
            }
        };
        tokio::join!(self.give_back(slots), remember);
    }

    /// The attempt was bad. What was past a limit counts there as well, so that hammering is no use.
    pub async fn failed(self) {
        if !self.past.is_empty() {
            join_all(
                self.past
                    .iter()
                    .map(|(name, limit)| self.throttle.charge(*name, *limit)),
            )
            .await;
        } else if let Some(names) = self.account {
            // As long as the other way: what is locked must not be told by the time that it takes.
            self.throttle.look(names.account, self.throttle.account()).await;
        }
    }

    /// The attempt was never looked at: it counts nowhere.
    pub async fn undone(mut self) {
        let slots = std::mem::take(&mut self.slots);
        self.give_back(slots).await;
    }

    async fn give_back(&self, slots: Vec<Slot>) {
        let backs = slots.into_iter().map(|mut slot| async move {
            if let Some((charge, shared)) = slot.give_back() {
                self.throttle.refund(slot.name(), charge, shared).await;
            }
        });
        join_all(backs).await;
    }
}
