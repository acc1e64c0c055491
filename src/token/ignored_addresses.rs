//! A hint for the operator: a caller states the addresses of its users, and is not believed.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::model::{Caller, ClientId, SessionContext, Source};

/// How often the hint is logged at most.
const INTERVAL: Duration = Duration::from_mins(1);

/// Counts and logs logins whose `context.ip_address` is ignored because the caller may not state it. All users behind
/// such a caller count as one source, so the failures of some slow down the logins of the others.
pub struct IgnoredAddresses {
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// When the last line was logged, by the monotonic clock.
    logged: Option<Duration>,
    /// How many logins were not logged since.
    left_out: u64,
}

impl std::fmt::Debug for IgnoredAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IgnoredAddresses")
    }
}

impl IgnoredAddresses {
    /// Nothing reported yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        metrics::describe_counter!(
            "countersign_ignored_addresses_total",
            "Logins whose context.ip_address was ignored because the caller may not state it."
        );
        metrics::counter!("countersign_ignored_addresses_total").increment(0);
        Self {
            clock,
            last: Mutex::default(),
        }
    }

    /// Reports a login of a caller that may not state an address. Nothing is reported if the statement would change
    /// nothing: it is empty, or names the source that counts anyway.
    pub(super) fn report(&self, caller: &Caller, client: &ClientId, context: &SessionContext) {
        let stated = &context.ip_address;
        if stated.is_empty() || Source::parse(stated) == Some(Source::of_peer(&caller.origin.ip_address)) {
            return;
        }
        metrics::counter!("countersign_ignored_addresses_total").increment(1);
        let Some(left_out) = self.next_line() else { return };
        let caller_id = if caller.is_authenticated() {
            caller.origin.actor.as_str()
        } else {
            "anonymous"
        };
        tracing::warn!(
            caller = caller_id,
            client_id = %client,
            peer = caller.origin.ip_address,
            left_out,
            "context.ip_address of a login is ignored: the caller does not authenticate as a client with \
             countersign:issue, so all its users count as one source; give it such a client"
        );
    }

    /// How many reports were left out since the last line; `None` if this one is left out as well.
    fn next_line(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut last = self.last.lock();
        if last.logged.is_some_and(|logged| now.saturating_sub(logged) < INTERVAL) {
            last.left_out += 1;
            return None;
        }
        last.logged = Some(now);
        Some(std::mem::take(&mut last.left_out))
    }
}
