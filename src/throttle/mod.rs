//! Limits on failed login attempts.
//!
//! Four limits count *failures*. The limits of an account, and of an account from one source, answer exactly like a
//! wrong password and only after the hashing, so that a caller does not learn whether they are exceeded. The limit of a
//! source and the global limit answer `RESOURCE_EXHAUSTED` before the hashing. Counter keys are HMACs, and attempts at
//! users that do not exist are counted as well.
//!
//! An attempt is counted before its password is checked, and its charge is taken back if it succeeds: guesses made at
//! once are limited like guesses made in a row. Successful attempts made at once do not fail because of each other: an
//! attempt that finds a limit full of attempts in flight waits for their results (`in_flight`).
//!
//! An attacker must not be able to lock a user out: a source from which the user logged in before is not subject to the
//! limit of the account, only to the limit of that account from that source.

mod in_flight;
mod reservation;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::in_flight::InFlightAttempts;
pub use self::reservation::{LimitState, Reservation};
use crate::clock::Clock;
use crate::keys::seal::MasterKeyring;
use crate::model::Username;
use crate::store::ThrottleStore;
use crate::store::throttles::{CounterKey, Limit, Rate};

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
    /// The most password attempts that may wait for the results of others.
    pub waiting: usize,
}

/// The limits, with the shared counters and the counters of this replica.
pub struct Throttle {
    shared: Option<Arc<dyn ThrottleStore>>,
    local: Arc<dyn ThrottleStore>,
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
    account: Option<AccountKeys>,
    source: Option<CounterKey>,
    global: Option<CounterKey>,
    /// Whether the attempt costs a password hash. Only [`ThrottleConfig::waiting`] of these may wait.
    hashes: bool,
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
        Self {
            shared,
            local,
            in_flight: Arc::default(),
            waiting: Semaphore::new(config.waiting.max(1)),
            master,
            clock,
            config,
        }
    }

    /// A user's login with a password.
    #[must_use]
    pub fn user_login(&self, name: &Username, source: &str) -> Attempt {
        Attempt {
            account: Some(self.account_keys(name, source)),
            ..self.by_source(source, true)
        }
    }

    /// A client's login with its secret. A secret of 256 bits cannot be guessed, so the limits apply to the source only
    /// and never lock the client.
    #[must_use]
    pub fn client_login(&self, source: &str) -> Attempt {
        self.by_source(source, false)
    }

    /// A logged-in user's repeated proof of a password. It counts together with the logins at that account. It does not
    /// count under the source or globally: the caller is authenticated, and other users may share the source.
    #[must_use]
    pub fn password_proof(&self, name: &Username, source: &str) -> Attempt {
        Attempt {
            account: Some(self.account_keys(name, source)),
            source: None,
            global: None,
            hashes: true,
        }
    }

    fn by_source(&self, source: &str, hashes: bool) -> Attempt {
        Attempt {
            account: None,
            source: Some(self.master.throttle_name(format!("source\0{source}").as_bytes())),
            global: self.config.global.map(|_| self.master.throttle_name(b"everybody")),
            hashes,
        }
    }

    fn account_keys(&self, name: &Username, source: &str) -> AccountKeys {
        // The length in front keeps two different pairs of name and source from having the same key.
        let key = |limit: &str, source: &str| {
            let text = format!("{limit}\0user\0{}\0{name}\0{source}", name.as_str().len());
            self.master.throttle_name(text.as_bytes())
        };
        AccountKeys {
            account: key("account", ""),
            account_source: key("account_source", source),
        }
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

    const fn source_limit(&self) -> Limit {
        Limit {
            rate: self.config.source,
            doubling: false,
        }
    }

    fn global_limit(&self) -> Option<Limit> {
        self.config.global.map(|rate| Limit { rate, doubling: false })
    }
}

#[cfg(test)]
mod tests;
