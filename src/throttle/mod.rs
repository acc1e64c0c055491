//! Login defences: what a failed attempt costs, and whom.
//!
//! Four limits count *failures*. The limits by account and by account + source answer exactly like a wrong password,
//! after the hashing, so that nobody learns from them; the limits by source and of all together answer
//! `RESOURCE_EXHAUSTED` before it. Names are counted as HMACs, whether or not such a user exists.
//!
//! An attempt is counted before it is looked at, and taken back if it was good: guesses made at once are counted like
//! guesses made in a row. Good attempts made at once do not stand in each other's way: one that finds all of a limit taken
//! by attempts under way waits for their outcome (`line`).
//!
//! An attacker must not lock the victim out: a source from which the right password came before is not held by the
//! limit of the account, only by the limit of that account and that source.

mod line;
mod reservation;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::line::Lines;
pub use self::reservation::{LimitState, Reservation};
use crate::clock::Clock;
use crate::keys::seal::Master;
use crate::model::Username;
use crate::store::ThrottleStore;
use crate::store::throttles::{Limit, Rate};

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// Of one account from one source.
    pub account_source: Rate,
    /// Of one account.
    pub account: Rate,
    /// Of one source.
    pub source: Rate,
    /// Of everybody together.
    pub global: Option<Rate>,
    /// The most attempts of people that wait for the outcome of others.
    pub waiting: usize,
}

/// The limits, over the shared counters and the ones of this replica.
pub struct Throttle {
    shared: Option<Arc<dyn ThrottleStore>>,
    local: Arc<dyn ThrottleStore>,
    lines: Arc<Lines>,
    waiting: Semaphore,
    master: Arc<Master>,
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

/// One attempt at an account from a source, by what it counts under.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    account: Option<Names>,
    source: Option<[u8; 16]>,
    everybody: Option<[u8; 16]>,
    /// Whether a hash is at stake, of which only so many may wait.
    hashes: bool,
}

#[derive(Clone, Copy, Debug)]
struct Names {
    account: [u8; 16],
    account_source: [u8; 16],
}

impl Throttle {
    /// Limits over `shared` counters, or over this replica's alone.
    #[must_use]
    pub fn new(
        shared: Option<Arc<dyn ThrottleStore>>,
        local: Arc<dyn ThrottleStore>,
        master: Arc<Master>,
        clock: Arc<dyn Clock>,
        config: ThrottleConfig,
    ) -> Self {
        Self {
            shared,
            local,
            lines: Arc::default(),
            waiting: Semaphore::new(config.waiting.max(1)),
            master,
            clock,
            config,
        }
    }

    /// The attempt of a person to log in.
    #[must_use]
    pub fn person(&self, name: &Username, source: &str) -> Attempt {
        Attempt {
            account: Some(self.names(name, source)),
            ..self.by_source(source, true)
        }
    }

    /// The attempt of a client to prove itself. A secret of 256 bits is not guessed: only whoever tries too often is
    /// held, never the client.
    #[must_use]
    pub fn machine(&self, source: &str) -> Attempt {
        self.by_source(source, false)
    }

    /// The attempt of somebody logged in to prove the password of an account once more: it counts with the logins at that
    /// account. Whoever may ask is known, so that others behind the same source are left alone.
    #[must_use]
    pub fn proof(&self, name: &Username, source: &str) -> Attempt {
        Attempt {
            account: Some(self.names(name, source)),
            source: None,
            everybody: None,
            hashes: true,
        }
    }

    fn by_source(&self, source: &str, hashes: bool) -> Attempt {
        Attempt {
            account: None,
            source: Some(self.master.throttle_name(format!("source\0{source}").as_bytes())),
            everybody: self.config.global.map(|_| self.master.throttle_name(b"everybody")),
            hashes,
        }
    }

    fn names(&self, name: &Username, source: &str) -> Names {
        // The length in front keeps two different pairs from being one name.
        let counted = |limit: &str, source: &str| {
            let text = format!("{limit}\0user\0{}\0{name}\0{source}", name.as_str().len());
            self.master.throttle_name(text.as_bytes())
        };
        Names {
            account: counted("account", ""),
            account_source: counted("account_source", source),
        }
    }

    const fn account_source(&self) -> Limit {
        Limit {
            rate: self.config.account_source,
            doubling: false,
        }
    }

    const fn account(&self) -> Limit {
        Limit {
            rate: self.config.account,
            doubling: true,
        }
    }

    const fn source(&self) -> Limit {
        Limit {
            rate: self.config.source,
            doubling: false,
        }
    }

    fn global(&self) -> Option<Limit> {
        self.config.global.map(|rate| Limit { rate, doubling: false })
    }
}

#[cfg(test)]
mod tests;
