//! Sessions: the parameters and results of the operations of the store of sessions.

use std::time::Duration;

use super::client::ReusePolicy;
use super::epoch::Epochs;
use super::grant::Allowed;
use super::ids::{ClientId, SessionId, UserId};
use super::revocation::RevocationSubject;
use crate::clock::UnixMillis;

/// The most generations by which a genuine refresh token may be ahead of the record and still be accepted. A failover
/// loses fewer rotations than that.
pub const MAX_FAST_FORWARD: u32 = 100;

/// How long the record of an expired session is kept, so that *expired* can be distinguished from *absent*.
pub const EXPIRED_RECORD_TTL: Duration = Duration::from_hours(1);

/// How many records a user may have beyond the session limit of the client of a login: sessions at other clients, expired
/// ones, revoked ones whose records are still there, and tombstones.
pub const SPARE_RECORDS: u32 = 1000;

/// The most sessions that one login ends because the user has too many records.
pub const MAX_EVICTED: usize = 8;

/// The most records of a user after a login at a client with this session limit. The store holds at most one more for each
/// client at which the user has a session, because a login ends only sessions of its own client.
#[must_use]
pub const fn max_records(limit: u32) -> u32 {
    limit.saturating_add(SPARE_RECORDS)
}

/// Where a login came from, as the caller says. It helps users to recognise their sessions; no decision depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionContext {
    /// For instance the `User-Agent` of a browser.
    pub user_agent: String,
    /// The address of the device.
    pub ip_address: String,
    /// For instance "Ada's phone".
    pub device_name: String,
}

impl SessionContext {
    /// The longest value of each field, in bytes; longer values are cut.
    pub const MAX_LEN: usize = 128;

    /// This context with each field cut to [`SessionContext::MAX_LEN`] at a character boundary, and with spaces instead of
    /// control characters.
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
    /// The session id.
    pub id: SessionId,
    /// The user.
    pub user: UserId,
    /// The client.
    pub client: ClientId,
    /// SHA-256 of the session secret. Only the refresh tokens contain the secret itself.
    pub secret_hash: [u8; 32],
    /// The refresh key that tagged generation 0.
    pub refresh_key: u32,
    /// The granted scopes. A refresh may narrow them, never widen them.
    pub scope: Vec<String>,
    /// The granted audiences. A refresh may narrow them, never widen them.
    pub audience: Vec<String>,
    /// When the user logged in.
    pub created: UnixMillis,
    /// How long the session may go without a refresh.
    pub idle_ttl: Duration,
    /// When the session ends at the latest. The refresh token carries the same time.
    pub expires: UnixMillis,
    /// The epochs, read together with the credential before the password was hashed.
    pub epochs: Epochs,
    /// The era of the store of sessions, read together with the credential.
    pub era: i64,
    /// Where the login came from, for display.
    pub context: SessionContext,
}

/// The result of `SessionStore::create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// When the session ends unless it is refreshed.
    pub idle_expires: UnixMillis,
    /// The user's other live sessions at the same client, oldest first. Empty unless they and the new one are more than the
    /// limit; the caller then revokes the oldest that are not revoked yet.
    pub over_limit: Vec<SessionView>,
    /// The sessions whose records were removed because the user had too many. The caller revokes them, so that their access
    /// tokens end too, and so that no evidence of a reuse is lost.
    pub evicted: Vec<EvictedSession>,
}

/// A session whose record was removed to keep the number of a user's records bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictedSession {
    /// The session id.
    pub id: SessionId,
    /// When the session would have ended at the latest.
    pub expires: UnixMillis,
}

/// A session without its secrets, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// The session id.
    pub id: SessionId,
    /// The client.
    pub client: ClientId,
    /// When it began.
    pub created: UnixMillis,
    /// When it was last refreshed; `created` if it was not.
    pub refreshed: UnixMillis,
    /// When it ends unless it is refreshed: the earlier of idle and absolute expiry.
    pub expires: UnixMillis,
    /// When it ends at the latest.
    pub absolute_expires: UnixMillis,
    /// The granted scopes.
    pub scope: Vec<String>,
    /// The epochs with which it was created; they decide which revocations apply.
    pub epochs: Epochs,
    /// Where the login came from.
    pub context: SessionContext,
}

/// The longest session that a client or the configuration may allow: 3,660 days, about ten years.
pub const MAX_SESSION_TTL: Duration = Duration::from_hours(24 * 3660);

impl SessionView {
    /// Everything by which this session of `user` can be revoked.
    #[must_use]
    pub fn revocation_subject(&self, user: UserId) -> RevocationSubject {
        RevocationSubject::of_session(user, self.id, self.client.clone(), self.epochs)
    }
}

/// A presented refresh token with a valid tag, and the limits that apply to its refresh.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The user of the session.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// SHA-256 of the session secret in the token.
    pub secret_hash: [u8; 32],
    /// The generation of the token.
    pub generation: u32,
    /// The id of this refresh attempt: it distinguishes a retry from a stolen token. May be empty.
    pub attempt_id: String,
    /// How long after a rotation the previous token is accepted again.
    pub grace: Duration,
    /// When the previous token is accepted again.
    pub policy: ReusePolicy,
    /// How long the session may go without another refresh.
    pub idle_ttl: Duration,
    /// The refresh key that tags the next token.
    pub refresh_key: u32,
    /// The current era of the store of sessions; a record of another era counts as absent.
    pub era: i64,
    /// The requested scopes; empty means all that are still allowed.
    pub scope: Vec<String>,
    /// The requested audiences; empty means all that are still allowed.
    pub audience: Vec<String>,
    /// The scopes that are allowed now.
    pub allowed_scope: Allowed,
    /// The audiences that are allowed now.
    pub allowed_audience: Allowed,
    /// Countersign's own audience, which is also allowed if the session was granted a `countersign:*` scope.
    pub own_audience: String,
    /// The most bytes that scopes and audiences may take in the payload of the access token ([`super::grant::json_len`]).
    pub max_claims_bytes: u32,
    /// The new context. An empty field keeps the recorded value.
    pub context: SessionContext,
    /// Whether this process stood still while the call may have waited. Then a token that was used before does not end the
    /// session: its caller may have given the call up, and gone on elsewhere.
    pub may_be_late: bool,
    /// When the caller gives the call up, by the clock of the store; none if that is not known. The token is not used after it.
    pub not_after: Option<UnixMillis>,
}

/// The result of presenting a refresh token: one atomic transition of the store of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token was current; the session now has its successor.
    Rotated(Rotated),
    /// The token was the previous one within the grace period. It gets the same successor again; nothing changed.
    Replayed(Rotated),
    /// The token was ahead of the record, which had lost rotations. The record caught up and rotated.
    FastForwarded {
        /// The rotation.
        rotated: Rotated,
        /// The number of rotations that the record had lost.
        lost: u32,
    },
    /// The token was used before. The record is a tombstone now, or was one already.
    Reused(Evidence),
    /// The request asks for a scope or audience that it may not have; nothing changed.
    Refused(Refusal),
    /// The caller has given the call up, or may have and the token was used since; nothing changed.
    Late,
    /// The session has expired.
    Expired,
    /// There is no such session: it never existed, ended, was lost, is of another era or has another secret.
    Unknown,
    /// The token was more than [`MAX_FAST_FORWARD`] generations ahead; the record was deleted.
    TooFarAhead,
}

impl Rotation {
    /// The rotation, if the caller gets a token.
    #[must_use]
    pub const fn success(&self) -> Option<&Rotated> {
        match self {
            Self::Rotated(rotated) | Self::Replayed(rotated) | Self::FastForwarded { rotated, .. } => Some(rotated),
            Self::Reused(_) | Self::Refused(_) | Self::Late | Self::Expired | Self::Unknown | Self::TooFarAhead => None,
        }
    }
}

/// The state of a session after a successful rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The generation of the next refresh token.
    pub generation: u32,
    /// The refresh key that tags it.
    pub refresh_key: u32,
    /// The narrowed scopes, for the access token.
    pub scope: Vec<String>,
    /// The narrowed audiences, for the access token.
    pub audience: Vec<String>,
    /// When the session began (`auth_time`).
    pub created: UnixMillis,
    /// When the session ends unless it is refreshed.
    pub idle_expires: UnixMillis,
    /// When the session ends at the latest.
    pub expires: UnixMillis,
    /// The time of the store's clock at the decision.
    pub now: UnixMillis,
}

/// Why the request was refused. The `String` is the refused scope or audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A scope that was never granted.
    WiderScope(String),
    /// An audience that was never granted.
    WiderAudience(String),
    /// A scope that was granted but is no longer allowed.
    LostScope(String),
    /// An audience that was granted but is no longer allowed.
    LostAudience(String),
    /// The scopes and audiences would make the access token too large.
    TooLarge,
}

/// The facts about the reuse of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether this presentation created the tombstone; false if the tombstone was already there.
    pub first: bool,
    /// The generation that was presented when the tombstone was created.
    pub presented: u32,
    /// The generation that was current then.
    pub current: u32,
    /// When the current generation was created.
    pub rotated: UnixMillis,
    /// Whether a successor of the presented token was used. If not, a lost response is as likely a cause as theft.
    pub successor_used: bool,
    /// When the session would have ended; the revocation is kept until then.
    pub expires: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_cut_at_a_character_boundary() {
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
