//! How often keys that nobody knows may send us to the store.

use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::model::KeyId;

/// At most one load in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long an id that was asked for in vain is not asked for again.
const HOPELESS: Duration = Duration::from_secs(30);

/// How many such ids are remembered; an attacker's random ones push each other out.
const REMEMBERED: usize = 1024;

pub(super) struct Unknown {
    loaded: Mutex<Option<Duration>>,
    in_vain: Cache<KeyId, Duration>,
}

impl Unknown {
    pub(super) fn new() -> Self {
        Self {
            loaded: Mutex::new(None),
            in_vain: Cache::new(REMEMBERED),
        }
    }

    /// Whether this id was asked for in vain, not long before `now` (monotonic).
    pub(super) fn is_hopeless(&self, kid: &KeyId, now: Duration) -> bool {
        self.in_vain
            .get(kid)
            .is_some_and(|asked| now.saturating_sub(asked) < HOPELESS)
    }

    pub(super) fn remember(&self, kid: KeyId, now: Duration) {
        self.in_vain.insert(kid, now);
    }

    /// Whether the interval since the last load has passed; takes the next one if so.
    pub(super) fn may_load(&self, now: Duration) -> bool {
        let mut loaded = self.loaded.lock();
        let may = loaded.is_none_or(|last| now.saturating_sub(last) >= INTERVAL);
        if may {
            *loaded = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_random_ids_are_one_load_an_interval() {
        let unknown = Unknown::new();
        let now = Duration::from_secs(100);
        let ids = (0..10_000).map(|id| format!("{id:043}").parse::<KeyId>().unwrap());
        let mut loads = 0;
        for id in ids {
            if !unknown.is_hopeless(&id, now) && unknown.may_load(now) {
                loads += 1;
                unknown.remember(id, now);
            }
        }
        assert_eq!(loads, 1);
        assert!(!unknown.may_load(now + INTERVAL.saturating_sub(Duration::from_millis(1))));
        assert!(unknown.may_load(now + INTERVAL));
        assert!(unknown.in_vain.len() <= REMEMBERED);
    }

    #[test]
    fn an_id_asked_for_in_vain_is_asked_for_again_in_time() {
        let unknown = Unknown::new();
        let id: KeyId = "x".repeat(43).parse().unwrap();
        unknown.remember(id.clone(), Duration::ZERO);
        assert!(unknown.is_hopeless(&id, HOPELESS.saturating_sub(Duration::from_millis(1))));
        assert!(!unknown.is_hopeless(&id, HOPELESS));
    }
}
