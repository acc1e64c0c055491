//! Audit events: which caller did what, to which user, client or key, from where, and with which outcome. They contain no
//! secrets.

use serde_json::{Map, Value};
use uuid::Uuid;

pub use super::audit_type::AuditType;
use super::ids::{ClientId, SessionId, new_uuid};
use crate::clock::UnixMillis;
use crate::secret::Entropy;

/// The `tracing` target of audit events in the log.
pub const LOG_TARGET: &str = "audit";

/// The outcome of an audited operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The operation was done.
    Success,
    /// The operation was refused.
    Denied,
}

impl Outcome {
    /// The outcome as stored and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
        }
    }
}

/// Which caller acts, and from where. It is made when a request arrives and is passed to every operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The caller: the id of a user or client, `cli`, `system`, or empty for an anonymous caller.
    pub actor: String,
    /// The address of the peer, or the user's address if an authenticated caller sent it.
    pub ip_address: String,
    /// The request id, which is also in the log.
    pub request_id: String,
}

impl Origin {
    /// The command line, which works on the store directly.
    #[must_use]
    pub fn cli() -> Self {
        Self {
            actor: "cli".into(),
            ..Self::default()
        }
    }

    /// Countersign itself, without a request: key rotation, clean-up and the like.
    #[must_use]
    pub fn system() -> Self {
        Self {
            actor: "system".into(),
            ..Self::default()
        }
    }
}

/// An audit event.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// The id, a `UUIDv7`: ids sort by time.
    pub id: Uuid,
    /// When it happened.
    pub time: UnixMillis,
    /// The type ([`AuditType::as_str`]). A string, because a row may come from a later version.
    pub kind: String,
    /// Which caller acted.
    pub origin: Origin,
    /// The id of the user, client or key that the event is about.
    pub subject: String,
    /// The client concerned; may be empty.
    pub client_id: String,
    /// The session concerned, if any.
    pub session_id: Option<SessionId>,
    /// `success` or `denied` ([`Outcome::as_str`]).
    pub outcome: String,
    /// Further facts by name.
    pub details: Map<String, Value>,
}

impl AuditEvent {
    /// A new successful event. The `with_` methods add details.
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

    /// Sets the client.
    #[must_use]
    pub fn with_client(mut self, client: &ClientId) -> Self {
        client.as_str().clone_into(&mut self.client_id);
        self
    }

    /// Sets the session.
    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session_id = Some(session);
        self
    }

    /// Sets the outcome.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        outcome.as_str().clone_into(&mut self.outcome);
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}
