//! The audit trail: who did what, on whom, from where, with what outcome. Never a secret.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::ids::{ClientId, SessionId, new_uuid};
use crate::clock::UnixMillis;
use crate::secret::Entropy;

/// The target of audit events in the structured log.
pub const LOG_TARGET: &str = "audit";

/// What happened. `as_str` is the wire's `AuditEvent.type`: object, dot, verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it; as_str is the documented form")]
pub enum AuditType {
    TokenIssued,
    TokenIssueFailed,
    TokenExchanged,
    TokenRefreshReused,
    TokenRefreshFastForwarded,
    TokenRevoked,
    SessionRevoked,
    SessionEvicted,
    UserRevoked,
    ClientRevoked,
    KeyRevoked,
    EverythingRevoked,
    SessionsLost,
    UserCreated,
    UserUpdated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
    UserImported,
    PasswordChanged,
    PasswordSet,
    PasswordResetBegun,
    PasswordResetCompleted,
    ClientCreated,
    ClientUpdated,
    ClientDeleted,
    ClientSecretRotated,
    KeyCreated,
    KeyActivated,
    KeyRetired,
    KeyRemoved,
    KeyImported,
    KeyResealed,
    Throttled,
}

impl AuditType {
    /// As stored, and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenIssued => "token.issued",
            Self::TokenIssueFailed => "token.issue.failed",
            Self::TokenExchanged => "token.exchanged",
            Self::TokenRefreshReused => "token.refresh.reused",
            Self::TokenRefreshFastForwarded => "token.refresh.fast_forwarded",
            Self::TokenRevoked => "token.revoked",
            Self::SessionRevoked => "session.revoked",
            Self::SessionEvicted => "session.evicted",
            Self::UserRevoked => "user.sessions_revoked",
            Self::ClientRevoked => "client.sessions_revoked",
            Self::KeyRevoked => "key.revoked",
            Self::EverythingRevoked => "everything.revoked",
            Self::SessionsLost => "sessions.lost",
            Self::UserCreated => "user.created",
            Self::UserUpdated => "user.updated",
            Self::UserDeleted => "user.deleted",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserImported => "user.imported",
            Self::PasswordChanged => "user.password.changed",
            Self::PasswordSet => "user.password.set",
            Self::PasswordResetBegun => "user.password.reset_begun",
            Self::PasswordResetCompleted => "user.password.reset_completed",
            Self::ClientCreated => "client.created",
            Self::ClientUpdated => "client.updated",
            Self::ClientDeleted => "client.deleted",
            Self::ClientSecretRotated => "client.secret_rotated",
            Self::KeyCreated => "key.created",
            Self::KeyActivated => "key.activated",
            Self::KeyRetired => "key.retired",
            Self::KeyRemoved => "key.removed",
            Self::KeyImported => "key.imported",
            Self::KeyResealed => "key.resealed",
            Self::Throttled => "login.throttled",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Denied,
}

impl Outcome {
    /// As stored, and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
        }
    }
}

/// Who asks, and from where. Made at the edge, carried through every rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The caller: a user's id, a client's id, `cli`, `system`, or empty for an anonymous one.
    pub actor: String,
    /// The address of the peer, or of the person where an authenticated caller told.
    pub ip_address: String,
    /// Of the request, to find it in the logs.
    pub request_id: String,
}

impl Origin {
    /// The command line on the store itself.
    #[must_use]
    pub fn cli() -> Self {
        Self {
            actor: "cli".into(),
            ..Self::default()
        }
    }

    /// Countersign of its own accord: rotation, eviction, clean-up.
    #[must_use]
    pub fn system() -> Self {
        Self {
            actor: "system".into(),
            ..Self::default()
        }
    }
}

/// One event of the trail.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// Sorted by time.
    pub id: Uuid,
    /// When.
    pub time: UnixMillis,
    /// What; a string because a row may come from a later version.
    pub kind: String,
    /// Who.
    pub origin: Origin,
    /// On whom: a user's, client's or key's id.
    pub subject: String,
    /// At which client; may be empty.
    pub client_id: String,
    /// In which session, if in one.
    pub session_id: Option<SessionId>,
    /// How it ended: `success` or `denied`.
    pub outcome: String,
    /// What else is known.
    pub details: Map<String, Value>,
}

impl AuditEvent {
    /// A successful event; add to it with the `with_` methods.
    #[must_use]
    pub fn new(
        kind: AuditType,
        subject: &impl ToString,
        origin: &Origin,
        now: UnixMillis,
        entropy: &dyn Entropy,
    ) -> Self {
        Self {
            id: new_uuid(now, entropy),
            time: now,
            kind: kind.as_str().to_owned(),
            origin: origin.clone(),
            subject: subject.to_string(),
            client_id: String::new(),
            session_id: None,
            outcome: Outcome::Success.as_str().to_owned(),
            details: Map::new(),
        }
    }

    /// At this client.
    #[must_use]
    pub fn with_client(mut self, client: &ClientId) -> Self {
        client.as_str().clone_into(&mut self.client_id);
        self
    }

    /// In this session.
    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session_id = Some(session);
        self
    }

    /// Ended so.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        outcome.as_str().clone_into(&mut self.outcome);
        self
    }

    /// With this detail.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}
