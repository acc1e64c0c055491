//! Limits on calls that are not failed passwords: wrong secrets, registrations, logins that succeed, and calls of users on
//! their own account.

use std::time::Duration;

use super::{Throttle, throttled};
use crate::model::{Error, ErrorKind, Result, SessionId, Source, UserId, Username};
use crate::store::throttles::{CounterKey, Limit, Rate};

/// The calls on their own account that each session of a user has beyond the budget of the user: a thief with one session
/// cannot keep the user from revoking it from another one.
const SESSION_RESERVE: Rate = Rate {
    count: 3,
    per: Duration::from_mins(10),
};

impl Throttle {
    /// Counts a wrong secret of 256 bits: of a client, or of a password reset. Returns `answer`, or `THROTTLED` once the
    /// limits of the source are used up.
    ///
    /// Such a secret cannot be guessed, and checking one costs no hash. So the secret is checked first, and a right one is
    /// never refused by a limit. Wrong secrets are counted apart from wrong passwords: they are free to send and must not
    /// use up the limits of people.
    pub async fn wrong_secret(&self, source: Source, answer: ErrorKind) -> Error {
        if !self.config.enabled {
            return answer.into();
        }
        let limits = self.limits_of_source("secret ", source, self.config.source, self.config.global);
        match self.secrets.charge_all(limits.into_iter().flatten()).await {
            Ok(()) => answer.into(),
            Err(wait) => throttled("secret", wait),
        }
    }

    /// Counts an account that a caller without `countersign:users` wants to create. Every attempt counts: each costs a hash
    /// and, if it succeeds, a row.
    ///
    /// # Errors
    /// `THROTTLED`.
    pub async fn registration(&self, source: Source) -> Result<()> {
        let global = Some(self.config.registration_global);
        let limits = self.limits_of_source("registration ", source, self.config.registration, global);
        self.admit("registration", limits.into_iter().flatten()).await
    }

    /// Checks before the hashing whether a user may log in again; see [`Self::count_login`].
    ///
    /// # Errors
    /// `THROTTLED`.
    pub async fn check_logins(&self, name: &Username) -> Result<()> {
        if !self.config.enabled {
            return Ok(());
        }
        let wait = self.calls.wait_time(self.logins(name), plain(self.config.login)).await;
        if wait.is_zero() {
            Ok(())
        } else {
            Err(throttled("login", wait))
        }
    }

    /// Counts a login with the right password. Each writes rows and costs a hash, and a login above the session limit of the
    /// client writes a revocation too. Only the right password counts, so others cannot use up the logins of a user.
    ///
    /// # Errors
    /// `THROTTLED`.
    pub async fn count_login(&self, name: &Username) -> Result<()> {
        self.admit("login", [(self.logins(name), plain(self.config.login))])
            .await
    }

    fn logins(&self, name: &Username) -> CounterKey {
        self.name(&format!("logins\0{name}"))
    }

    /// Counts a call of a user on their own account: Revoke, `ChangePassword` or `ListSessions`. Every call counts.
    ///
    /// # Errors
    /// `THROTTLED` if the budget of the user and the reserve of the session are used up.
    pub async fn own_account_call(&self, user: UserId, session: SessionId) -> Result<()> {
        if !self.config.enabled {
            return Ok(());
        }
        let key = |of: &str, id: &dyn std::fmt::Display| self.name(&format!("own account\0{of}\0{id}"));
        let budget = (key("user", &user), plain(self.config.own_account));
        let Err(wait) = self.calls.charge_all([budget]).await else {
            return Ok(());
        };
        let reserve = (key("session", &session), plain(SESSION_RESERVE));
        match self.calls.charge_all([reserve]).await {
            Ok(()) => Ok(()),
            Err(longer) => Err(throttled("own_account", wait.min(longer))),
        }
    }

    /// Counts a use of a valid reset token. Only the use that succeeds ends the token, and each use costs the check of a new
    /// password.
    ///
    /// # Errors
    /// `THROTTLED`.
    pub async fn password_reset(&self, user: UserId) -> Result<()> {
        let counter = self.name(&format!("password reset\0{user}"));
        self.admit("own_account", [(counter, plain(self.config.own_account))])
            .await
    }

    async fn admit(&self, limit: &'static str, limits: impl IntoIterator<Item = (CounterKey, Limit)>) -> Result<()> {
        if !self.config.enabled {
            return Ok(());
        }
        let charged = self.calls.charge_all(limits).await;
        charged.map_err(|wait| throttled(limit, wait))
    }
}

const fn plain(rate: Rate) -> Limit {
    Limit { rate, doubling: false }
}
