//! The authenticated or anonymous caller of an RPC.

use super::audit::Origin;
use super::claims::Claims;
use super::error::Error;
use super::ids::{ClientId, SessionId, UserId};
use super::scope::CallerScope;
use super::user::ADMIN;

/// The identity of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A caller without credentials. It holds the scopes of `server.anonymous_scopes`.
    Anonymous,
    /// A user with their own access token.
    Person {
        /// The user.
        user: UserId,
        /// The session of the access token.
        session: SessionId,
        /// Whether the token carries the role `admin`.
        admin: bool,
    },
    /// A client with its own access token, or identified by its TLS certificate.
    Machine {
        /// The client.
        client: ClientId,
    },
    /// A client with an exchanged token. It acts for the subject of the token, but never on the subject's account.
    Delegate {
        /// The client.
        client: ClientId,
    },
}

/// A caller: its identity, its scopes and where it calls from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The identity.
    pub identity: Identity,
    /// The scopes of the access token, of the client, or of the configuration for anonymous callers.
    pub scopes: Vec<String>,
    /// For the audit trail; `ip_address` is the address of the peer.
    pub origin: Origin,
}

impl Caller {
    /// The caller that presented a verified access token with these claims.
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

    /// Whether it holds `scope`.
    #[must_use]
    pub fn has(&self, scope: CallerScope) -> bool {
        self.scopes.iter().any(|held| held == scope.as_str())
    }

    /// Why a call that needs `scope` is refused: `CALLER_UNAUTHENTICATED` for an anonymous caller, else
    /// `CALLER_NOT_ALLOWED`.
    #[must_use]
    pub fn refusal(&self, scope: CallerScope) -> Error {
        Error::missing_scope(scope, self.is_authenticated(), &self.origin.actor)
    }

    /// Whether it is not anonymous.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.identity != Identity::Anonymous
    }

    /// Whether it is a user with the role `admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        matches!(self.identity, Identity::Person { admin: true, .. })
    }

    /// The user and the session, if the caller is a user with their own token.
    #[must_use]
    pub fn person(&self) -> Option<(UserId, SessionId)> {
        match self.identity {
            Identity::Person { user, session, .. } => Some((user, session)),
            Identity::Anonymous | Identity::Machine { .. } | Identity::Delegate { .. } => None,
        }
    }
}
