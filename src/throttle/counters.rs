//! Counters of one purpose: the shared ones, and those of this replica while the shared store is out of reach.

use std::sync::Arc;
use std::time::Duration;

use crate::store::ThrottleStore;
use crate::store::throttles::{Charge, CounterKey, Limit, LimitDecision};

/// How long a source is remembered for an account after a successful login.
const KNOWN_SOURCE_TTL: Duration = Duration::from_hours(30 * 24);

/// The shared counters, with a replacement in the memory of this replica.
pub(super) struct Counters {
    pub(super) shared: Option<Arc<dyn ThrottleStore>>,
    pub(super) local: Arc<dyn ThrottleStore>,
}

impl Counters {
    /// Counts one attempt if the limit allows one. Also returns whether the shared store decided.
    pub(super) async fn try_charge(&self, counter: CounterKey, limit: Limit) -> (LimitDecision, bool) {
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

    /// How long until the limit has room; zero if it has. Counts nothing.
    pub(super) async fn wait_time(&self, counter: CounterKey, limit: Limit) -> Duration {
        let local = self.local.wait_time(counter, limit).await.unwrap_or_default();
        match &self.shared {
            Some(shared) => shared.wait_time(counter, limit).await.unwrap_or_default().max(local),
            None => local,
        }
    }

    /// Counts one event under every limit, or under none if one has no room. Returns how long until that one has room.
    pub(super) async fn charge_all(
        &self,
        limits: impl IntoIterator<Item = (CounterKey, Limit)>,
    ) -> Result<(), Duration> {
        let mut counted = Vec::new();
        for (counter, limit) in limits {
            match self.try_charge(counter, limit).await {
                (LimitDecision::Allowed(charge), is_shared) => counted.push((counter, charge, is_shared)),
                (LimitDecision::Wait(wait), _) => {
                    for (counter, charge, is_shared) in counted {
                        self.refund(counter, charge, is_shared).await;
                    }
                    return Err(wait);
                }
            }
        }
        Ok(())
    }

    pub(super) async fn refund(&self, counter: CounterKey, charge: Charge, is_shared: bool) {
        let refunded = match &self.shared {
            Some(store) if is_shared => store.refund(counter, charge).await,
            _ => self.local.refund(counter, charge).await,
        };
        if let Err(error) = refunded {
            // Harmless: the charge expires like that of a failure.
            tracing::debug!(%error, "cannot refund a successful login attempt; it counts as a failure");
        }
    }

    /// Remembers a source from which an account logged in.
    pub(super) async fn remember(&self, key: CounterKey) {
        // Locally as well, so that the user stays known here while the shared store is out of reach.
        drop(self.local.remember(key, KNOWN_SOURCE_TTL).await);
        if let Some(shared) = &self.shared
            && let Err(error) = shared.remember(key, KNOWN_SOURCE_TTL).await
        {
            tracing::debug!(%error, "other replicas do not learn that a user is known at a source");
        }
    }

    pub(super) async fn is_remembered(&self, key: CounterKey) -> bool {
        if let Some(shared) = &self.shared
            && shared.is_remembered(key).await.unwrap_or(false)
        {
            return true;
        }
        self.local.is_remembered(key).await.unwrap_or(false)
    }

    /// Reads a counter and ignores it, to take as long as [`Self::refund`].
    pub(super) async fn read_for_timing(&self, counter: CounterKey, limit: Limit) {
        match &self.shared {
            Some(shared) => drop(shared.wait_time(counter, limit).await),
            None => drop(self.local.wait_time(counter, limit).await),
        }
    }
}
