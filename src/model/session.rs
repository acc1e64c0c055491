//! Sessions: what the store of sessions keeps, and what its verbs answer.

use std::time::Duration;

use super::client::ReusePolicy;
use super::epoch::Epochs;
use super::grant::Allowed;
use super::ids::{ClientId, SessionId, UserId};
use super::revocation::RevocationSubject;
use crate::clock::UnixMillis;

/// How far ahead of the store a genuine token may be and still be followed: more lost rotations than a failover loses.
pub const MAX_FAST_FORWARD: u32 = 100;

/// How long a session's record outlives its expiry, so that *expired* and *absent* differ.
pub const EXPIRED_RECORD_TTL: Duration = Duration::from_hours(1);

/// Where a login came from, as its caller told. For people to recognise their sessions by; decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionContext {
    /// For instance a browser's `User-Agent`.
    pub user_agent: String,
    /// The address of the device.
    pub ip_address: String,
    /// For instance "Ada's phone".
    pub device_name: String,
}

impl SessionContext {
    /// The longest of each field, in bytes; longer is cut.
    pub const MAX_LEN: usize = 128;

    /// This context with each field cut at a character's end, and control characters made into spaces.
    #[must_use]
    pub fn cut(self) -> Self {
        let cut = |text: String| {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let end = (0..=Self::MAX_LEN.min(text.len()))
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or(0);
            text[..end].to_owned()
        };
        Self {
            user_agent: cut(self.user_agent),
            ip_address: cut(self.ip_address),
            device_name: cut(self.device_name),
        }
    }
}

/// A session to be stored.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// At which client.
    pub client: ClientId,
    /// SHA-256 of the session secret. The secret itself is in the refresh tokens alone.
    pub secret_hash: [u8; 32],
    /// The refresh key that tagged generation 0.
    pub refresh_key: u32,
    /// What was granted; a refresh may narrow it, never widen.
    pub scope: Vec<String>,
    /// Likewise.
    pub audience: Vec<String>,
    /// When the person proved who they are.
    pub created: UnixMillis,
    /// How long it may go without a refresh.
    pub idle_ttl: Duration,
    /// When it ends whatever happens; the refresh token carries the same.
    pub expires: UnixMillis,
    /// Read with the credential, before hashing.
    pub epochs: Epochs,
    /// The era of the store of sessions, read with the credential.
    pub era: i64,
    /// For people.
    pub context: SessionContext,
}

/// What `SessionStore::create` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// When the session ends unless it is refreshed.
    pub idle_expires: UnixMillis,
    /// The user's other live sessions at the same client, oldest first; only if more than the limit's worth, counting
    /// the new one. The caller revokes the oldest that are still alive.
    pub over_limit: Vec<SessionView>,
}

/// A session, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// At which client.
    pub client: ClientId,
    /// When it began.
    pub created: UnixMillis,
    /// When it was last refreshed; `created` if never.
    pub refreshed: UnixMillis,
    /// When it ends unless it is refreshed: the earlier of idle and absolute expiry.
    pub expires: UnixMillis,
    /// When it ends whatever happens.
    pub absolute_expires: UnixMillis,
    /// What it was granted.
    pub scope: Vec<String>,
    /// To tell what revocations kill.
    pub epochs: Epochs,
    /// For people.
    pub context: SessionContext,
}

/// The longest that any client may let a session last.
pub const MAX_SESSION_TTL: Duration = Duration::from_hours(24 * 3660);

impl SessionView {
    /// What it stands on, as the session of `user`.
    #[must_use]
    pub fn revocation_subject(&self, user: UserId) -> RevocationSubject {
        RevocationSubject::of_session(user, self.id, self.client.clone(), self.epochs)
    }
}

/// A presented refresh token whose tag was good, with what the client may have now.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Whose session.
    pub user: UserId,
    /// Which.
    pub session: SessionId,
    /// SHA-256 of the token's session secret.
    pub secret_hash: [u8; 32],
    /// The token's generation.
    pub generation: u32,
    /// Tells a retry from a thief; may be empty.
    pub attempt_id: String,
    /// How long after a rotation the previous token is answered again.
    pub grace: Duration,
    /// What that needs.
    pub policy: ReusePolicy,
    /// How long the session may go without another refresh.
    pub idle_ttl: Duration,
    /// The refresh key that tags a successor.
    pub refresh_key: u32,
    /// The era of the store of sessions now; a record of another is absent.
    pub era: i64,
    /// Asked for; empty means all that is still allowed.
    pub scope: Vec<String>,
    /// Likewise.
    pub audience: Vec<String>,
    /// What may be asked for now.
    pub allowed_scope: Allowed,
    /// Likewise.
    pub allowed_audience: Allowed,
    /// Countersign's own audience: allowed besides where the grant holds a `countersign:*` scope.
    pub own_audience: String,
    /// How many bytes of an access token's payload scopes and audiences may take ([`super::grant::json_len`]).
    pub max_claims_bytes: u32,
    /// The new context; empty fields leave the recorded ones.
    pub context: SessionContext,
}

/// What became of a presented refresh token. One atomic transition of the store of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was current: the successor is.
    Rotated(Rotated),
    /// It was the previous one within the grace: the same successor again; nothing changed.
    Replayed(Rotated),
    /// It was ahead of the record, which had lost rotations: the record followed and rotated.
    FastForwarded {
        /// The rotation.
        rotated: Rotated,
        /// How many rotations the record had lost.
        lost: u32,
    },
    /// It was used before: the record is a tombstone now, or was one already.
    Reused(Evidence),
    /// The request asks for what it may not have; nothing changed.
    Refused(Refusal),
    /// The session had expired.
    Expired,
    /// No such session: never made, ended, lost, of another era, or under another secret.
    Unknown,
    /// More than [`MAX_FAST_FORWARD`] ahead: the record was dropped.
    TooFarAhead,
}

impl Rotation {
    /// What it leaves, if the presenter gets a token.
    #[must_use]
    pub const fn success(&self) -> Option<&Rotated> {
        match self {
            Self::Rotated(rotated) | Self::Replayed(rotated) | Self::FastForwarded { rotated, .. } => Some(rotated),
            Self::Reused(_) | Self::Refused(_) | Self::Expired | Self::Unknown | Self::TooFarAhead => None,
        }
    }
}

/// What a successful rotation leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The generation of the successor token.
    pub generation: u32,
    /// The refresh key that tags it.
    pub refresh_key: u32,
    /// What this access token gets: the narrowed scope.
    pub scope: Vec<String>,
    /// Likewise.
    pub audience: Vec<String>,
    /// When the session began (`auth_time`).
    pub created: UnixMillis,
    /// When the session ends unless it is refreshed.
    pub idle_expires: UnixMillis,
    /// When the session ends whatever happens.
    pub expires: UnixMillis,
    /// The store's clock when it decided.
    pub now: UnixMillis,
}

/// Why the request was refused; a `String` is the scope or audience at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A scope that was never granted.
    WiderScope(String),
    /// An audience that was never granted.
    WiderAudience(String),
    /// A scope that was lost since.
    LostScope(String),
    /// An audience that was lost since.
    LostAudience(String),
    /// Scopes and audiences do not fit into the room that the rest of the access token leaves.
    TooLarge,
}

/// What is known of a refresh token that was used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether this presentation made the tombstone; false if it found one.
    pub first: bool,
    /// The generation that was presented when the tombstone was made.
    pub presented: u32,
    /// The generation that was current then.
    pub current: u32,
    /// When the current one was made.
    pub rotated: UnixMillis,
    /// Whether any successor of the presented token was ever used: if not, a lost reply explains it as well as theft.
    pub successor_used: bool,
    /// When the session would have ended; the revocation is kept until then.
    pub expires: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_cut_at_a_character() {
        let context = SessionContext {
            user_agent: "é".repeat(100),
            device_name: "a\nb".into(),
            ..Default::default()
        };
        let cut = context.cut();
        assert_eq!((cut.user_agent.len(), cut.device_name.as_str()), (128, "a b"));
        let odd = SessionContext {
            user_agent: format!("x{}", "é".repeat(100)),
            ..Default::default()
        }
        .cut();
        assert_eq!(odd.user_agent.len(), 127);
    }
}
