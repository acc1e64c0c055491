//! Login defences: what a failed login costs, and whom.
//!
//! Four limits count *failures*. The limits by account and by account + source answer exactly like a wrong password,
//! after the hashing, so that nobody learns from them; the limits by source and of all together answer
//! `RESOURCE_EXHAUSTED` before it. Names are counted as HMACs, whether or not such a user exists.
//!
//! An attacker must not lock the victim out: a source from which the right password came before is not held by the
//! limit of the account, only by the limit of that account and that source.

use std::sync::Arc;
use std::time::Duration;

use crate::keys::seal::Master;
use crate::model::{ClientId, Error, ErrorKind, Result, Username};
use crate::store::ThrottleStore;
use crate::store::throttles::{Limit, Rate};

/// How long a source is remembered for an account after a right password.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

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
}

/// The limits, over the shared counters and the ones of this replica.
pub struct Throttle {
    shared: Option<Arc<dyn ThrottleStore>>,
    local: Arc<dyn ThrottleStore>,
    master: Arc<Master>,
    config: ThrottleConfig,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// One attempt at an account from a source, by its counted names.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    account: [u8; 16],
    account_source: [u8; 16],
    source: [u8; 16],
    everybody: [u8; 16],
}

/// How an attempt stands before its password is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may succeed.
    Open,
    /// It answers like a wrong password whatever the password.
    Locked,
}

impl Throttle {
    /// Limits over `shared` counters, or over this replica's alone.
    #[must_use]
    pub fn new(
        shared: Option<Arc<dyn ThrottleStore>>,
        local: Arc<dyn ThrottleStore>,
        master: Arc<Master>,
        config: ThrottleConfig,
    ) -> Self {
        Self {
            shared,
            local,
            master,
            config,
        }
    }

    /// The attempt of a person to log in.
    #[must_use]
    pub fn person(&self, name: &Username, source: &str) -> Attempt {
        self.attempt("user", name.as_str(), source)
    }

    /// The attempt of a client to prove itself.
    #[must_use]
    pub fn machine(&self, client: &ClientId, source: &str) -> Attempt {
        self.attempt("client", client.as_str(), source)
    }

    fn attempt(&self, kind: &str, name: &str, source: &str) -> Attempt {
        // The length in front keeps two different pairs from being one name.
        let counted = |limit: &str, parts: [&str; 2]| {
            let [name, source] = parts;
            let text = format!("{limit}\0{kind}\0{}\0{name}\0{source}", name.len());
            self.master.throttle_name(text.as_bytes())
        };
        Attempt {
            account: counted("account", [name, ""]),
            account_source: counted("account_source", [name, source]),
            source: self.master.throttle_name(format!("source\0{source}").as_bytes()),
            everybody: self.master.throttle_name(b"everybody"),
        }
    }

    /// Whether the attempt may be made at all (`THROTTLED` by source or by everybody), and how it stands.
    pub async fn admit(&self, attempt: &Attempt) -> Result<Standing> {
        if !self.config.enabled {
            return Ok(Standing::Open);
        }
        let everybody = async {
            match self.global() {
                Some(limit) => self.wait(attempt.everybody, limit).await,
                None => Duration::ZERO,
            }
        };
        let (source, everybody, account, account_source, known) = tokio::join!(
            self.wait(attempt.source, self.source()),
            everybody,
            self.wait(attempt.account, self.account()),
            self.wait(attempt.account_source, self.account_source()),
            self.remembers(attempt.account_source),
        );
        let refused = source.max(everybody);
        if !refused.is_zero() {
            return Err(Error::from(ErrorKind::Throttled).retry_after(refused));
        }
        let locked = !account_source.is_zero() || (!account.is_zero() && !known);
        Ok(if locked { Standing::Locked } else { Standing::Open })
    }

    /// Counts a failure.
    pub async fn failed(&self, attempt: &Attempt) {
        if !self.config.enabled {
            return;
        }
        let everybody = async {
            if let Some(limit) = self.global() {
                self.charge(attempt.everybody, limit).await;
            }
        };
        tokio::join!(
            self.charge(attempt.source, self.source()),
            self.charge(attempt.account, self.account()),
            self.charge(attempt.account_source, self.account_source()),
            everybody,
        );
    }

    /// Remembers where a right password came from.
    pub async fn succeeded(&self, attempt: &Attempt) {
        if !self.config.enabled {
            return;
        }
        if let Some(shared) = &self.shared
            && shared.remember(attempt.account_source, REMEMBERED).await.is_ok()
        {
            return;
        }
        // The local counters cannot fail.
        drop(self.local.remember(attempt.account_source, REMEMBERED).await);
    }

    async fn wait(&self, name: [u8; 16], limit: Limit) -> Duration {
        if let Some(shared) = &self.shared
            && let Ok(wait) = shared.wait(name, limit).await
        {
            // What this replica counted alone during an outage still counts.
            return wait.max(self.local.wait(name, limit).await.unwrap_or_default());
        }
        self.local.wait(name, limit).await.unwrap_or_default()
    }

    async fn charge(&self, name: [u8; 16], limit: Limit) {
        if let Some(shared) = &self.shared
            && shared.charge(name, limit).await.is_ok()
        {
            return;
        }
        drop(self.local.charge(name, limit).await);
    }

    async fn remembers(&self, name: [u8; 16]) -> bool {
        if let Some(shared) = &self.shared
            && shared.remembers(name).await.unwrap_or(false)
        {
            return true;
        }
        self.local.remembers(name).await.unwrap_or(false)
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
