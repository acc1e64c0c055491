//! On whose behalf a rule runs, and what that allows.

use crate::model::audit::Origin;
use crate::model::grant::OWN_PREFIX;
use crate::model::{Caller, ErrorKind, Result, SessionId, UserId};
use crate::store::accounts::Authority;

/// On whose behalf a rule runs: a caller over the network, or the owner of the store on the command line.
#[derive(Clone, Debug)]
pub struct Principal {
    origin: Origin,
    /// The scopes held; none means the store's owner, who needs none.
    scopes: Option<Vec<String>>,
    admin: bool,
    authenticated: bool,
    person: Option<(UserId, SessionId)>,
}

impl Principal {
    /// The owner of the store: whoever can open it may do anything to it.
    #[must_use]
    pub fn owner() -> Self {
        Self {
            origin: Origin::cli(),
            scopes: None,
            admin: true,
            authenticated: true,
            person: None,
        }
    }

    /// For the audit trail.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The person who calls with their own token, and in which session.
    #[must_use]
    pub fn person(&self) -> Option<(UserId, SessionId)> {
        self.person
    }

    /// Whether they hold `scope`.
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.iter().any(|held| held == scope))
    }

    /// Refuses who lacks `scope`.
    pub fn require(&self, scope: &str) -> Result<()> {
        if self.holds(scope) {
            return Ok(());
        }
        Err(self.refusal().into())
    }

    /// Refuses who neither holds `scope` nor is `user` with their own token.
    pub fn require_or_self(&self, scope: &str, user: UserId) -> Result<()> {
        if self.person.is_some_and(|(own, _)| own == user) {
            return Ok(());
        }
        self.require(scope)
    }

    /// What the store checks against the row of a user.
    #[must_use]
    pub fn authority(&self) -> Authority {
        if self.admin {
            Authority::Admin
        } else {
            Authority::Ordinary
        }
    }

    /// The `countersign:*` scopes that they may hand on; none means all (the store's owner).
    #[must_use]
    pub fn callable(&self) -> Option<Vec<String>> {
        let own = |scope: &&String| scope.starts_with(OWN_PREFIX);
        self.scopes
            .as_ref()
            .map(|scopes| scopes.iter().filter(own).cloned().collect())
    }

    fn refusal(&self) -> ErrorKind {
        if self.authenticated {
            ErrorKind::CallerNotAllowed
        } else {
            ErrorKind::CallerUnauthenticated
        }
    }
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self {
            origin: caller.origin.clone(),
            scopes: Some(caller.scopes.clone()),
            admin: caller.is_admin(),
            authenticated: caller.is_authenticated(),
            person: caller.person(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{ClientId, Identity};
    use uuid::Uuid;

    /// A machine that holds `scopes`.
    pub(crate) fn machine(scopes: &[&str]) -> Principal {
        Principal::from(&Caller {
            identity: Identity::Machine {
                client: ClientId::default(),
            },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
        })
    }

    /// A person with their own token.
    pub(crate) fn person(user: UserId, session: SessionId, admin: bool, scopes: &[&str]) -> Principal {
        Principal::from(&Caller {
            identity: Identity::Person { user, session, admin },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
        })
    }

    /// Nobody.
    pub(crate) fn anonymous() -> Principal {
        Principal::from(&Caller {
            identity: Identity::Anonymous,
            scopes: Vec::new(),
            origin: Origin::default(),
        })
    }

    #[test]
    fn only_the_owner_holds_everything_without_naming_it() {
        assert!(Principal::owner().holds("countersign:users"));
        assert_eq!(Principal::owner().callable(), None);
        assert_eq!(Principal::owner().authority(), Authority::Admin);
        let machine = machine(&["countersign:clients", "read"]);
        assert!(!machine.holds("countersign:users"));
        assert_eq!(machine.callable(), Some(vec!["countersign:clients".to_owned()]));
        assert_eq!(machine.authority(), Authority::Ordinary, "no scope makes an admin");
    }

    #[test]
    fn people_have_their_own_account_and_no_other() {
        let (own, other) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let person = person(own, SessionId(Uuid::from_u128(3)), false, &[]);
        assert!(person.require_or_self("countersign:users", own).is_ok());
        let kind = |principal: &Principal| principal.require_or_self("countersign:users", other).unwrap_err().kind;
        assert_eq!(kind(&person), ErrorKind::CallerNotAllowed);
        assert_eq!(kind(&anonymous()), ErrorKind::CallerUnauthenticated);
        assert!(
            machine(&["countersign:users"])
                .require_or_self("countersign:users", other)
                .is_ok()
        );
    }
}
