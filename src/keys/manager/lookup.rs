//! Keys that this replica does not know: how often they may send it to the store, and who waits for the answer.
//!
//! One load answers everybody who asked before it began (single flight), and one begins at most each [`INTERVAL`]. Nobody
//! is told that a key is unknown by a load that began before they asked: a random id each second would otherwise hide a
//! key that was just made. What need not wait does not: an id that was asked for in vain a short while ago, and a token
//! that says it was made well before the last load, which would have found its key.

use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex as Turn, Semaphore};

use super::Keys;
use crate::keys::verify::Claimed;
use crate::model::{Error, KeyId, Result};

/// At most one load in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long an id that was asked for in vain is not asked for again.
const HOPELESS: Duration = Duration::from_secs(30);

/// How many such ids are remembered; an attacker's random ones push each other out.
const REMEMBERED: usize = 1024;

/// The most callers that wait for a load.
const WAITING: usize = 256;

/// By how much the clock of whoever made a token may be behind ours, and a second to which `iat` is rounded down.
const SKEW: Duration = Duration::from_secs(6);

pub(super) struct Unknown {
    turn: Turn<()>,
    last: Mutex<Option<Load>>,
    waiting: Semaphore,
    in_vain: Cache<KeyId, Duration>,
}

/// The last load for an unknown key, by the monotonic clock.
#[derive(Clone, Debug)]
struct Load {
    began: Duration,
    /// None while it is under way, or if nobody waited for its end.
    outcome: Option<Result<()>>,
}

impl Unknown {
    pub(super) fn new() -> Self {
        Self {
            turn: Turn::new(()),
            last: Mutex::new(None),
            waiting: Semaphore::new(WAITING),
            in_vain: Cache::new(REMEMBERED),
        }
    }

    /// Whether this id was asked for in vain, not long before `now` (monotonic).
    fn is_hopeless(&self, kid: &KeyId, now: Duration) -> bool {
        self.in_vain
            .get(kid)
            .is_some_and(|asked| now.saturating_sub(asked) < HOPELESS)
    }

    /// What the last load answers to somebody who asked at `asked`, if it does.
    fn answered(&self, asked: Duration) -> Option<Result<()>> {
        let last = self.last.lock();
        last.as_ref().filter(|load| load.began >= asked)?.outcome.clone()
    }

    /// How long until the next load may begin.
    fn pause(&self, now: Duration) -> Duration {
        let last = self.last.lock();
        last.as_ref()
            .map_or(Duration::ZERO, |load| (load.began + INTERVAL).saturating_sub(now))
    }
}

impl Keys {
    /// Asks the store for a key that the ring does not know, unless it was asked since `asked` (monotonic); whether the ring
    /// knows it now. At most one load per interval whatever arrives.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` if it cannot be told: the store cannot be asked, or too many wait to.
    pub async fn on_unknown_kid(&self, claimed: &Claimed, asked: Duration) -> Result<bool> {
        let knows = || self.current().verifying().knows(&claimed.key);
        let in_time = self.loaded.wall() > claimed.issued.plus(SKEW);
        if knows() || in_time || self.unknown.is_hopeless(&claimed.key, self.parts.clock.monotonic()) {
            return Ok(knows());
        }
        self.load_since(asked).await?;
        if !knows() {
            let now = self.parts.clock.monotonic();
            self.unknown.in_vain.insert(claimed.key.clone(), now);
        }
        Ok(knows())
    }

    /// The refresh key of this number is not in the ring: asks the store under the same limit; whether the ring has it now.
    pub async fn on_unknown_refresh_key(&self, id: u32) -> Result<bool> {
        let asked = self.parts.clock.monotonic();
        if self.current().refresh_key(id).is_none() {
            self.load_since(asked).await?;
        }
        Ok(self.current().refresh_key(id).is_some())
    }

    /// Waits for a load that began at `asked` or later, or makes it.
    async fn load_since(&self, asked: Duration) -> Result<()> {
        let unknown = &self.unknown;
        let _place = unknown
            .waiting
            .try_acquire()
            .map_err(|_| Error::store_unavailable("too many wait for unknown keys to be looked up"))?;
        let _turn = unknown.turn.lock().await;
        if let Some(answer) = unknown.answered(asked) {
            return answer;
        }
        tokio::time::sleep(unknown.pause(self.parts.clock.monotonic())).await;
        let began = self.parts.clock.monotonic();
        *unknown.last.lock() = Some(Load { began, outcome: None });
        let outcome = self.reload().await.map(drop);
        *unknown.last.lock() = Some(Load {
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
    fn an_id_asked_for_in_vain_is_asked_for_again_in_time() {
        let unknown = Unknown::new();
        let ids = (0..10_000).map(|id| format!("{id:043}").parse::<KeyId>().unwrap());
        for id in ids {
            unknown.in_vain.insert(id, Duration::ZERO);
        }
        assert!(unknown.in_vain.len() <= REMEMBERED, "bounded");
        let id: KeyId = "x".repeat(43).parse().unwrap();
        unknown.in_vain.insert(id.clone(), Duration::ZERO);
        assert!(unknown.is_hopeless(&id, HOPELESS.saturating_sub(Duration::from_millis(1))));
        assert!(!unknown.is_hopeless(&id, HOPELESS));
    }

    #[test]
    fn a_load_answers_only_those_who_asked_before_it_began() {
        let unknown = Unknown::new();
        let at = Duration::from_secs;
        assert!(unknown.answered(at(1)).is_none() && unknown.pause(at(1)).is_zero());
        *unknown.last.lock() = Some(Load {
            began: at(10),
            outcome: Some(Ok(())),
        });
        assert!(unknown.answered(at(10)).is_some() && unknown.answered(at(9)).is_some());
        assert!(unknown.answered(at(11)).is_none());
        assert_eq!(unknown.pause(at(10)), INTERVAL);
    }
}
