//! Lookup of unknown keys in the store, with a limit on the load that unknown ids can cause.
//!
//! One load answers all callers that asked before it began (single flight), and at most one load begins in each
//! [`MIN_LOAD_INTERVAL`]. A load that began before a caller asked never tells that caller that its key is unknown: otherwise
//! one random id a second could hide a new key. Two kinds of callers need not wait: those with an id that was not found a
//! short while ago, and those with a token issued well before the last load, which would have found its key. A refresh key is
//! published for `keys.prepublish` before it tags tokens, so a presented refresh token needs no load while the last one is
//! younger than that.

use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::Keys;
use crate::keys::verify::Claimed;
use crate::model::{Error, KeyId, Result};

/// The shortest time between the beginnings of two loads.
const MIN_LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// How long an id that the store did not have is not looked up again.
const NOT_FOUND_TTL: Duration = Duration::from_secs(30);

/// How many such ids are cached. Random ids of an attacker displace one another.
const NOT_FOUND_CAPACITY: usize = 1024;

/// The largest number of callers that wait for a load: those with access tokens, and as many with refresh tokens.
const MAX_WAITING: usize = 256;

/// How far the clock of the issuing replica may be behind ours, plus the second by which `iat` may be rounded down.
const MAX_SKEW: Duration = Duration::from_secs(6);

/// The state of lookups. Times are of the monotonic clock.
pub(super) struct KeyLookup {
    /// Held while a load waits to begin and runs.
    load_lock: AsyncMutex<()>,
    last_load: Mutex<Option<Load>>,
    waiting: Semaphore,
    /// Apart from `waiting`: the ids of refresh keys are small numbers, so names of keys to come are easy to make up.
    waiting_for_refresh_key: Semaphore,
    /// Ids that the store did not have, with the time of the lookup.
    not_found: Cache<KeyId, Duration>,
}

/// A load of the ring on behalf of an unknown key.
#[derive(Clone, Debug)]
struct Load {
    began: Duration,
    /// `None` while the load runs, or if the caller that ran it went away.
    outcome: Option<Result<()>>,
}

impl KeyLookup {
    pub(super) fn new() -> Self {
        Self {
            load_lock: AsyncMutex::new(()),
            last_load: Mutex::new(None),
            waiting: Semaphore::new(MAX_WAITING),
            waiting_for_refresh_key: Semaphore::new(MAX_WAITING),
            not_found: Cache::new(NOT_FOUND_CAPACITY),
        }
    }

    /// Whether the store did not have this id a short while before `now`.
    fn was_not_found(&self, kid: &KeyId, now: Duration) -> bool {
        self.not_found
            .get(kid)
            .is_some_and(|asked| now.saturating_sub(asked) < NOT_FOUND_TTL)
    }

    /// The outcome of the last load, if it ended and began at `asked` or later.
    fn outcome_since(&self, asked: Duration) -> Option<Result<()>> {
        let last = self.last_load.lock();
        last.as_ref().filter(|load| load.began >= asked)?.outcome.clone()
    }

    /// The time from `now` until the next load may begin.
    fn delay(&self, now: Duration) -> Duration {
        let last = self.last_load.lock();
        last.as_ref().map_or(Duration::ZERO, |load| {
            (load.began + MIN_LOAD_INTERVAL).saturating_sub(now)
        })
    }
}

impl Keys {
    /// Looks up a key that the ring lacks in the store, unless a load since `asked` (monotonic) has answered already.
    /// Returns whether the ring has the key now. However many callers arrive, at most one load begins in each interval.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` if the store cannot be reached, or if too many callers wait for a load.
    pub async fn look_up_kid(&self, claimed: &Claimed, asked: Duration) -> Result<bool> {
        let knows = || self.current().verifying().knows(&claimed.key);
        let loaded_later = self.last_loaded_at.lock().wall > claimed.issued.plus(MAX_SKEW);
        if knows() || loaded_later || self.lookup.was_not_found(&claimed.key, self.vault.clock.monotonic()) {
            return Ok(knows());
        }
        self.load_since(asked, &self.lookup.waiting).await?;
        if !knows() {
            let now = self.vault.clock.monotonic();
            self.lookup.not_found.insert(claimed.key.clone(), now);
        }
        Ok(knows())
    }

    /// Looks up the refresh key with this number, under the same limit; returns whether the ring has it now.
    ///
    /// # Errors
    /// As [`Keys::look_up_kid`].
    pub async fn look_up_refresh_key(&self, id: u32) -> Result<bool> {
        let asked = self.vault.clock.monotonic();
        if self.current().refresh_key(id).is_none() {
            self.load_since(asked, &self.lookup.waiting_for_refresh_key).await?;
        }
        Ok(self.current().refresh_key(id).is_some())
    }

    /// Like [`Keys::look_up_refresh_key`], for a number that a presented token names, which may be made up. Nothing is loaded
    /// if the last load would have found the key: it tags tokens only after it has been published for `keys.prepublish`. The
    /// ring is loaded every few seconds, so made-up numbers cost no load and no wait, and hide no new key.
    ///
    /// # Errors
    /// As [`Keys::look_up_kid`].
    pub async fn look_up_presented_refresh_key(&self, id: u32) -> Result<bool> {
        let ring = self.current();
        let age = self.vault.clock.read().since(*self.last_loaded_at.lock());
        // Without any usable key, the next one tags at once.
        let is_published_first = ring.newest_refresh().is_some();
        if is_published_first && age.saturating_add(MAX_SKEW) < self.config.prepublish {
            return Ok(ring.refresh_key(id).is_some());
        }
        self.look_up_refresh_key(id).await
    }

    /// Waits for a load that began at `asked` or later; runs it if there is none.
    async fn load_since(&self, asked: Duration, waiting: &Semaphore) -> Result<()> {
        let lookup = &self.lookup;
        let _permit = waiting
            .try_acquire()
            .map_err(|_| Error::store_unavailable("too many callers wait for a lookup of unknown keys"))?;
        let _load_lock = lookup.load_lock.lock().await;
        if let Some(outcome) = lookup.outcome_since(asked) {
            return outcome;
        }
        tokio::time::sleep(lookup.delay(self.vault.clock.monotonic())).await;
        let began = self.vault.clock.monotonic();
        *lookup.last_load.lock() = Some(Load { began, outcome: None });
        let outcome = self.reload().await.map(drop);
        *lookup.last_load.lock() = Some(Load {
            began,
            outcome: Some(outcome.clone()),
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_not_found_is_looked_up_again_later() {
        let lookup = KeyLookup::new();
        let ids = (0..10_000).map(|id| format!("{id:043}").parse::<KeyId>().unwrap());
        for id in ids {
            lookup.not_found.insert(id, Duration::ZERO);
        }
        assert!(lookup.not_found.len() <= NOT_FOUND_CAPACITY, "bounded");
        let id: KeyId = "x".repeat(43).parse().unwrap();
        lookup.not_found.insert(id.clone(), Duration::ZERO);
        assert!(lookup.was_not_found(&id, NOT_FOUND_TTL.saturating_sub(Duration::from_millis(1))));
        assert!(!lookup.was_not_found(&id, NOT_FOUND_TTL));
    }

    #[test]
    fn a_load_answers_only_callers_that_asked_before_it_began() {
        let lookup = KeyLookup::new();
        let at = Duration::from_secs;
        assert!(lookup.outcome_since(at(1)).is_none() && lookup.delay(at(1)).is_zero());
        *lookup.last_load.lock() = Some(Load {
            began: at(10),
            outcome: Some(Ok(())),
        });
        assert!(lookup.outcome_since(at(10)).is_some() && lookup.outcome_since(at(9)).is_some());
        assert!(lookup.outcome_since(at(11)).is_none());
        assert_eq!(lookup.delay(at(10)), MIN_LOAD_INTERVAL);
    }
}
