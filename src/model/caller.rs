//! Who calls us, once they have proved it.

use super::audit::Origin;
use super::claims::Claims;
use super::ids::{ClientId, SessionId, UserId};
use super::user::ADMIN;

/// Who a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody proved anything; holds what `server.anonymous_scopes` gives.
    Anonymous,
    /// A person with their own token.
    Person {
        /// Who.
        user: UserId,
        /// In which of their sessions.
        session: SessionId,
        /// Whether the token carries the role `admin`.
        admin: bool,
    },
    /// A client with its own token, or by its TLS certificate.
    Machine {
        /// Which.
        client: ClientId,
    },
    /// A client with an exchanged token: acts for somebody, and never on their account.
    Delegate {
        /// Which.
        client: ClientId,
    },
}

/// A caller: who, with which rights, from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// The scopes that the token carries, or that the client or the configuration gives.
    pub scopes: Vec<String>,
    /// For the audit trail; `ip_address` is the peer's.
    pub origin: Origin,
}

impl Caller {
    /// The caller whose access token was verified and said `claims`.
    #[must_use]
    pub fn of_claims(claims: &Claims, origin: Origin) -> Self {
        let identity = match (claims.sid, claims.sub.parse()) {
            (Some(session), Ok(user)) if claims.is_person() => Identity::Person {
                user,
                session,
                admin: claims.roles.iter().any(|role| role == ADMIN),
            },
            _ if claims.is_machine() => Identity::Machine {
                client: claims.client_id.clone(),
            },
            _ => Identity::Delegate {
                client: claims.client_id.clone(),
            },
        };
        Self {
            identity,
            scopes: claims.scope.clone(),
            origin: Origin {
                actor: claims.sub.clone(),
                ..origin
            },
        }
    }

    /// Whether it holds the scope.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == scope)
    }

    /// Whether it proved who it is.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.identity != Identity::Anonymous
    }

    /// Whether it is a person who holds the role `admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        matches!(self.identity, Identity::Person { admin: true, .. })
    }

    /// The user, if it is that person with their own token.
    #[must_use]
    pub fn person(&self) -> Option<(UserId, SessionId)> {
        match self.identity {
            Identity::Person { user, session, .. } => Some((user, session)),
            Identity::Anonymous | Identity::Machine { .. } | Identity::Delegate { .. } => None,
        }
    }
}
