//! The principal of an operation: the caller or the owner of the store, and what it may do.

use crate::model::audit::Origin;
use crate::model::scope::has_caller_prefix;
use crate::model::{Caller, CallerScope, Error, Result, SessionId, Source, UserId};
use crate::store::accounts::Authority;

/// The principal of an operation: a caller over the network, or the owner of the store on the command line.
#[derive(Clone, Debug)]
pub struct Principal {
    origin: Origin,
    /// The scopes held; `None` for the owner of the store, which needs no scopes.
    scopes: Option<Vec<String>>,
    admin: bool,
    /// Whether it is not an anonymous caller.
    authenticated: bool,
    person: Option<(UserId, SessionId)>,
}

impl Principal {
    /// The owner of the store. An operator who can open the store may do everything to it.
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

    /// The origin for the audit trail.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The user and session, if the caller is a user with their own access token.
    #[must_use]
    pub fn person(&self) -> Option<(UserId, SessionId)> {
        self.person
    }

    /// Whether the principal holds `scope`.
    #[must_use]
    pub fn holds(&self, scope: CallerScope) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.iter().any(|held| held == scope.as_str()))
    }

    /// Returns an error unless the principal holds `scope`: `CALLER_UNAUTHENTICATED` for an anonymous caller, else
    /// `CALLER_NOT_ALLOWED`.
    pub fn require(&self, scope: CallerScope) -> Result<()> {
        if self.holds(scope) {
            return Ok(());
        }
        Err(Error::missing_scope(scope, self.authenticated, &self.origin.actor))
    }

    /// Like [`Principal::require`], but `user` with their own access token needs no scope.
    pub fn require_or_self(&self, scope: CallerScope, user: UserId) -> Result<()> {
        if self.person.is_some_and(|(own, _)| own == user) {
            return Ok(());
        }
        self.require(scope)
    }

    /// The user and session of a call of a user on their own account, which is limited per user. A principal that holds
    /// `scope` is not limited.
    #[must_use]
    pub fn on_own_account(&self, scope: CallerScope, user: UserId) -> Option<(UserId, SessionId)> {
        self.person.filter(|(own, _)| *own == user && !self.holds(scope))
    }

    /// The source of the caller.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::of_peer(&self.origin.ip_address)
    }

    /// The authority that the store checks against the row of a user: whether the principal may change an admin.
    #[must_use]
    pub fn authority(&self) -> Authority {
        if self.admin {
            Authority::Admin
        } else {
            Authority::Ordinary
        }
    }

    /// The caller scopes that the principal may grant to a client; `None` means all (the owner of the store).
    #[must_use]
    pub fn caller_scopes(&self) -> Option<Vec<String>> {
        let own = |scope: &&String| has_caller_prefix(scope);
        self.scopes
            .as_ref()
            .map(|scopes| scopes.iter().filter(own).cloned().collect())
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
    use crate::model::{ClientId, ErrorKind, Identity};
    use uuid::Uuid;

    /// A client with its own token and these scopes.
    pub(crate) fn machine(scopes: &[&str]) -> Principal {
        Principal::from(&Caller {
            identity: Identity::Machine {
                client: ClientId::default(),
            },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
        })
    }

    /// A user with their own token.
    pub(crate) fn person(user: UserId, session: SessionId, admin: bool, scopes: &[&str]) -> Principal {
        Principal::from(&Caller {
            identity: Identity::Person { user, session, admin },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
        })
    }

    /// An anonymous caller.
    pub(crate) fn anonymous() -> Principal {
        Principal::from(&Caller {
            identity: Identity::Anonymous,
            scopes: Vec::new(),
            origin: Origin::default(),
        })
    }

    #[test]
    fn only_the_owner_holds_every_scope_without_listing_it() {
        assert!(Principal::owner().holds(CallerScope::Users));
        assert_eq!(Principal::owner().caller_scopes(), None);
        assert_eq!(Principal::owner().authority(), Authority::Admin);
        let machine = machine(&["countersign:clients", "read"]);
        assert!(!machine.holds(CallerScope::Users));
        assert_eq!(machine.caller_scopes(), Some(vec!["countersign:clients".to_owned()]));
        assert_eq!(machine.authority(), Authority::Ordinary, "no scope makes an admin");
    }

    #[test]
    fn a_user_may_use_their_own_account_and_no_other() {
        let (own, other) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let person = person(own, SessionId(Uuid::from_u128(3)), false, &[]);
        assert!(person.require_or_self(CallerScope::Users, own).is_ok());
        let kind = |principal: &Principal| principal.require_or_self(CallerScope::Users, other).unwrap_err().kind;
        assert_eq!(kind(&person), ErrorKind::CallerNotAllowed);
        assert_eq!(kind(&anonymous()), ErrorKind::CallerUnauthenticated);
        assert!(
            machine(&["countersign:users"])
                .require_or_self(CallerScope::Users, other)
                .is_ok()
        );
    }
}
