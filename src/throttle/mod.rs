//! Limits on failed login attempts, on logins of one user, on registrations and on calls of users on their own account.
//!
//! Four limits count failed passwords. The limits of an account, and of an account from one source, answer exactly like a
//! wrong password and only after the hashing, so that a caller does not learn whether they are exceeded. The limit of a
//! source and the global limit answer `RESOURCE_EXHAUSTED` before the hashing. Counter keys are HMACs, and attempts at
//! users that do not exist are counted as well. A source is an IPv4 address or an IPv6 /64; the /48 of an IPv6 source has a
//! larger limit of its own.
//!
//! An attempt is counted before its password is checked, and its charge is taken back if it succeeds: guesses made at
//! once are limited like guesses made in a row. Successful attempts made at once do not fail because of each other: an
//! attempt that finds a limit full of attempts in flight waits for their results (`in_flight`). An attempt that a limit
//! refuses adds nothing to the account's limits, so that they have room again after their time, however often the user
//! tries meanwhile.
//!
//! An attacker must not be able to lock a user out. A source from which the user logged in before is known for that
//! user: there only the limit of that account from that source stops the right password. A wrong password is then still
//! answered like those of other users of the source, and at the same time ([`Throttle::hold_refusal`]), so that an
//! attacker does not learn which users are known there.
//!
//! Secrets of 256 bits cannot be guessed. They are checked first, and only wrong ones are counted (`calls`).

mod calls;
mod counters;
mod in_flight;
mod reservation;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use self::counters::Counters;
use self::in_flight::InFlightAttempts;
pub use self::reservation::{LimitState, Reservation};
use crate::clock::Clock;
use crate::keys::seal::MasterKeyring;
use crate::model::{Error, ErrorKind, Source, Username};
use crate::store::ThrottleStore;
use crate::store::local::LocalThrottles;
use crate::store::throttles::{CounterKey, Limit, Rate};

/// How many times the limit of one IPv6 source the sources of one /48 have together.
const SITE_FACTOR: u32 = 8;

/// The refusals of a source are sent at a multiple of this time after the attempt began, at least.
const REFUSAL_STEP: Duration = Duration::from_millis(250);

/// The configured limits.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleConfig {
    /// Whether attempts are limited at all.
    pub enabled: bool,
    /// Failures at one account from one source.
    pub account_source: Rate,
    /// Failures at one account.
    pub account: Rate,
    /// Failures from one source.
    pub source: Rate,
    /// Failures of all callers together; none for no limit.
    pub global: Option<Rate>,
    /// Registrations from one source.
    pub registration: Rate,
    /// Registrations of all callers together.
    pub registration_global: Rate,
    /// Logins of one user with the right password.
    pub login: Rate,
    /// Calls of one user on their own account.
    pub own_account: Rate,
    /// The most password attempts that may wait for the results of others; half of them at one account or source.
    pub waiting: usize,
}

/// The limits, with the shared counters and the counters of this replica.
pub struct Throttle {
    /// Failed passwords. Each costs a hash.
    passwords: Counters,
    /// Wrong secrets. They cost the caller nothing, so in the memory of this replica they have a place of their own: they
    /// must not displace the counters of passwords.
    secrets: Counters,
    /// Registrations, logins with the right password, and calls of users on their own account.
    calls: Counters,
    in_flight: Arc<InFlightAttempts>,
    waiting: Semaphore,
    master: Arc<MasterKeyring>,
    clock: Arc<dyn Clock>,
    config: ThrottleConfig,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The counters of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    account: AccountKeys,
    /// The limits that other accounts share, narrowest first. The order is always the same, so that two attempts never
    /// wait for each other.
    shared: [Option<(CounterKey, Limit)>; 3],
    /// When the attempt began, by the monotonic clock.
    began: Duration,
}

#[derive(Clone, Copy, Debug)]
struct AccountKeys {
    account: CounterKey,
    account_source: CounterKey,
}

impl Throttle {
    /// Limits over the `shared` counters; without them, over the counters of this replica alone.
    #[must_use]
    pub fn new(
        shared: Option<Arc<dyn ThrottleStore>>,
        local: Arc<dyn ThrottleStore>,
        master: Arc<MasterKeyring>,
        clock: Arc<dyn Clock>,
        config: ThrottleConfig,
    ) -> Self {
        describe_metrics();
        let separate = || Counters {
            shared: shared.clone(),
            local: Arc::new(LocalThrottles::new(Arc::clone(&clock))),
        };
        Self {
            secrets: separate(),
            calls: separate(),
            passwords: Counters { shared, local },
            in_flight: Arc::default(),
            waiting: Semaphore::new(config.waiting.max(1)),
            master,
            clock,
            config,
        }
    }

    /// A user's login with a password.
    #[must_use]
    pub fn user_login(&self, name: &Username, source: Source) -> Attempt {
        Attempt {
            shared: self.limits_of_source("", source, self.config.source, self.config.global),
            ..self.password_proof(name, source)
        }
    }

    /// A logged-in user's repeated proof of a password. It counts together with the logins at that account. It does not
    /// count under the source or globally: the caller is authenticated, and other users may share the source.
    #[must_use]
    pub fn password_proof(&self, name: &Username, source: Source) -> Attempt {
        Attempt {
            account: self.account_keys(name, source),
            shared: [None; 3],
            began: self.clock.monotonic(),
        }
    }

    /// Waits before an attempt is answered with `THROTTLED`, until a multiple of a fixed time after it began.
    ///
    /// At a source whose limit is used up, only the passwords of users known there are still checked. Answered at once, the
    /// refusals would be faster for all other users. `usual_check` is how long the check of a password usually takes.
    pub async fn hold_refusal(&self, attempt: &Attempt, usual_check: Duration, deadline: Duration) {
        let now = self.clock.monotonic();
        let took = now.saturating_sub(attempt.began);
        let step = REFUSAL_STEP.max(usual_check.saturating_mul(4));
        let steps = took.as_nanos() / step.as_nanos() + 1;
        let rest = step
            .saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
            .saturating_sub(took);
        // A caller that waits less long than that still gets the refusal.
        let left = deadline.saturating_sub(now).saturating_sub(REFUSAL_STEP / 10);
        tokio::time::sleep(rest.min(left)).await;
    }

    /// The limits of a source, of its site and of all sources together, for what `purpose` counts.
    fn limits_of_source(
        &self,
        purpose: &str,
        source: Source,
        rate: Rate,
        global: Option<Rate>,
    ) -> [Option<(CounterKey, Limit)>; 3] {
        let limit = |rate| Limit { rate, doubling: false };
        let site = source.is_ipv6().then(|| {
            let rate = Rate {
                count: rate.count.saturating_mul(SITE_FACTOR),
                ..rate
            };
            (self.name(&format!("{purpose}site\0{}", source.site())), limit(rate))
        });
        [
            Some((self.name(&format!("{purpose}source\0{source}")), limit(rate))),
            site,
            global.map(|rate| (self.name(&format!("{purpose}everybody")), limit(rate))),
        ]
    }

    fn account_keys(&self, name: &Username, source: Source) -> AccountKeys {
        // The length in front keeps two different pairs of name and source from having the same key.
        let key =
            |limit: &str, source: &str| self.name(&format!("{limit}\0user\0{}\0{name}\0{source}", name.as_str().len()));
        AccountKeys {
            account: key("account", ""),
            account_source: key("account_source", &source.to_string()),
        }
    }

    fn name(&self, counted: &str) -> CounterKey {
        self.master.throttle_name(counted.as_bytes())
    }

    const fn account_source_limit(&self) -> Limit {
        Limit {
            rate: self.config.account_source,
            doubling: false,
        }
    }

    const fn account_limit(&self) -> Limit {
        Limit {
            rate: self.config.account,
            doubling: true,
        }
    }
}

/// The error of a call that `limit` refuses, counted.
fn throttled(limit: &'static str, wait: Duration) -> Error {
    metrics::counter!("countersign_throttled_total", "limit" => limit).increment(1);
    Error::from(ErrorKind::Throttled).retry_after(wait)
}

fn describe_metrics() {
    metrics::describe_counter!(
        "countersign_throttled_total",
        "Calls that a limit refused with THROTTLED, and logins at locked accounts (limit account)."
    );
    for limit in ["account", "source", "secret", "registration", "login", "own_account"] {
        metrics::counter!("countersign_throttled_total", "limit" => limit).increment(0);
    }
}

#[cfg(test)]
mod tests;
