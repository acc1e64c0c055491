//! Revocations, and how to decide whether a token or session is revoked.

use smallvec::{SmallVec, smallvec};

use super::claims::Claims;
use super::epoch::Epochs;
use super::ids::{ClientId, KeyId, SessionId, TokenId, UserId};
use crate::clock::UnixMillis;

/// The level of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// One access token.
    Token,
    /// One session and its tokens.
    Session,
    /// All sessions and tokens of a user.
    User,
    /// All sessions and tokens of a client.
    Client,
    /// All tokens that a signing key signed.
    Key,
    /// All sessions and tokens of the deployment.
    Global,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 6] = [
        Self::Token,
        Self::Session,
        Self::User,
        Self::Client,
        Self::Key,
        Self::Global,
    ];

    /// The level as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::User => "user",
            Self::Client => "client",
            Self::Key => "key",
            Self::Global => "global",
        }
    }

    /// The reverse of [`Level::as_str`].
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One access token, by its `jti`.
    Token(TokenId),
    /// One session.
    Session(SessionId),
    /// The sessions and tokens of a user with a smaller epoch than the revocation, except one session.
    User {
        /// The user.
        id: UserId,
        /// The session that is not revoked.
        keep: Option<SessionId>,
    },
    /// The sessions and tokens of a client with a smaller epoch than the revocation.
    Client(ClientId),
    /// All tokens of a signing key.
    Key(KeyId),
    /// All sessions and tokens with a smaller epoch than the revocation.
    Global,
}

impl Target {
    /// The level of the target.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Token(_) => Level::Token,
            Self::Session(_) => Level::Session,
            Self::User { .. } => Level::User,
            Self::Client(_) => Level::Client,
            Self::Key(_) => Level::Key,
            Self::Global => Level::Global,
        }
    }

    /// The id at that level, as text; empty for [`Target::Global`].
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Token(id) => id.to_string(),
            Self::Session(id) => id.to_string(),
            Self::User { id, .. } => id.to_string(),
            Self::Client(id) => id.to_string(),
            Self::Key(id) => id.to_string(),
            Self::Global => String::new(),
        }
    }

    /// The session that is not revoked, if there is one.
    #[must_use]
    pub const fn keep(&self) -> Option<SessionId> {
        match self {
            Self::User { keep, .. } => *keep,
            Self::Token(_) | Self::Session(_) | Self::Client(_) | Self::Key(_) | Self::Global => None,
        }
    }

    /// The reverse of [`Target::level`], [`Target::id`] and [`Target::keep`]; `None` if the id is not one of that level.
    #[must_use]
    pub fn from_parts(level: Level, id: &str, keep: Option<SessionId>) -> Option<Self> {
        Some(match level {
            Level::Token => Self::Token(id.parse().ok()?),
            Level::Session => Self::Session(id.parse().ok()?),
            Level::User => Self::User {
                id: id.parse().ok()?,
                keep,
            },
            Level::Client => Self::Client(id.parse().ok()?),
            Level::Key => Self::Key(id.parse().ok()?),
            Level::Global => Self::Global,
        })
    }
}

/// A recorded revocation: one row, which never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub target: Target,
    /// At the levels user, client and global: sessions and tokens with a smaller epoch are revoked. 0 at the other levels.
    pub epoch: i64,
    /// When every session and token that it revokes has expired, so that the row can be deleted.
    pub expires: UnixMillis,
    /// When it was recorded.
    pub revoked: UnixMillis,
}

/// Everything by which a token or session can be revoked. Every verified token in memory has one, so the lists hold one
/// entry in place: most tokens have no actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSubject {
    /// Access tokens: its own `jti`, its `root` and those of its actors.
    pub tokens: SmallVec<[TokenId; 1]>,
    /// Sessions: its own and those of its actors.
    pub sessions: SmallVec<[SessionId; 1]>,
    /// The key that signed the token.
    pub key: Option<KeyId>,
    /// Epochs: one entry for the subject and one for each actor.
    pub epochs: SmallVec<[EpochSet; 1]>,
}

/// The epochs of the subject or of an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSet {
    /// The user, if the subject or actor is a user.
    pub user: Option<UserId>,
    /// The client whose epoch `epochs.client` is.
    pub client: ClientId,
    /// The session, which a revocation of the user may have kept.
    pub session: Option<SessionId>,
    /// The epochs.
    pub epochs: Epochs,
}

impl RevocationSubject {
    /// Everything by which an access token with these claims, signed by `key`, can be revoked.
    #[must_use]
    pub fn of_claims(claims: &Claims, key: KeyId) -> Self {
        let mut subject = Self {
            tokens: smallvec![claims.jti],
            sessions: claims.sid.into_iter().collect(),
            key: Some(key),
            epochs: smallvec![EpochSet {
                user: claims.sub.parse().ok(),
                client: claims.epo.client_id.clone(),
                session: claims.sid,
                epochs: claims.epo.epochs,
            }],
        };
        subject.tokens.extend(claims.root);
        for actor in claims.actors() {
            subject.tokens.extend(actor.jti);
            subject.sessions.extend(actor.sid);
            subject.epochs.push(EpochSet {
                user: actor.sub.parse().ok(),
                client: actor.epo.client_id.clone(),
                session: actor.sid,
                epochs: actor.epo.epochs,
            });
        }
        subject
    }

    /// Everything by which a session can be revoked.
    #[must_use]
    pub fn of_session(user: UserId, session: SessionId, client: ClientId, epochs: Epochs) -> Self {
        Self {
            tokens: SmallVec::new(),
            sessions: smallvec![session],
            key: None,
            epochs: smallvec![EpochSet {
                user: Some(user),
                client,
                session: Some(session),
                epochs,
            }],
        }
    }

    /// Whether `revocation` revokes it. This defines *revoked*; the index in memory and the SQL predicates must agree with
    /// it.
    #[must_use]
    pub fn is_revoked_by(&self, revocation: &Revocation) -> bool {
        match &revocation.target {
            Target::Token(id) => self.tokens.contains(id),
            Target::Session(id) => self.sessions.contains(id),
            Target::Key(id) => self.key.as_ref() == Some(id),
            Target::User { id, keep } => self.epochs.iter().any(|epoch_set| {
                let is_kept = keep.is_some() && epoch_set.session == *keep;
                epoch_set.user == Some(*id) && epoch_set.epochs.user < revocation.epoch && !is_kept
            }),
            Target::Client(id) => self
                .epochs
                .iter()
                .any(|epoch_set| epoch_set.client == *id && epoch_set.epochs.client < revocation.epoch),
            Target::Global => self
                .epochs
                .iter()
                .any(|epoch_set| epoch_set.epochs.global < revocation.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn session(n: u128) -> SessionId {
        SessionId(Uuid::from_u128(n))
    }

    fn row(target: Target, epoch: i64) -> Revocation {
        Revocation {
            target,
            epoch,
            expires: UnixMillis(0),
            revoked: UnixMillis(0),
        }
    }

    #[test]
    fn a_user_revocation_revokes_older_sessions_except_the_kept_one() {
        let user = UserId(Uuid::from_u128(1));
        let of = |sid, epoch| {
            let epochs = Epochs {
                user: epoch,
                ..Epochs::default()
            };
            RevocationSubject::of_session(user, session(sid), ClientId::default(), epochs)
        };
        let keeping = row(
            Target::User {
                id: user,
                keep: Some(session(7)),
            },
            10,
        );
        assert!(of(8, 9).is_revoked_by(&keeping));
        assert!(!of(7, 9).is_revoked_by(&keeping), "the kept session is not revoked");
        assert!(!of(8, 10).is_revoked_by(&keeping), "a later login is not revoked");
        let all = row(Target::User { id: user, keep: None }, 11);
        assert!(
            of(7, 9).is_revoked_by(&all),
            "a later row revokes the session that an earlier one kept"
        );
    }

    #[test]
    fn every_target_is_restored_from_its_parts() {
        for target in [
            Target::Token(TokenId(Uuid::from_u128(1))),
            Target::Session(session(2)),
            Target::User {
                id: UserId(Uuid::from_u128(3)),
                keep: Some(session(4)),
            },
            Target::Client(ClientId::default()),
            Target::Global,
        ] {
            assert_eq!(Level::named(target.level().as_str()), Some(target.level()));
            assert_eq!(
                Target::from_parts(target.level(), &target.id(), target.keep()),
                Some(target)
            );
        }
    }
}
