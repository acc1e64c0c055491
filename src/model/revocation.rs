//! Revocations: what is dead, and how to tell whether a token is.

use smallvec::{SmallVec, smallvec};

use super::claims::Claims;
use super::epoch::Epochs;
use super::ids::{ClientId, KeyId, SessionId, TokenId, UserId};
use crate::clock::UnixMillis;

/// How far a revocation reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// One access token.
    Token,
    /// One session with all its tokens.
    Session,
    /// A user's sessions and tokens.
    User,
    /// A client's sessions and tokens.
    Client,
    /// Every token that a signing key signed.
    Key,
    /// Everything.
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

    /// As stored.
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
    /// Everything of a user that is older than the row's epoch, except one session.
    User {
        /// Whose.
        id: UserId,
        /// The session that lives on.
        keep: Option<SessionId>,
    },
    /// Everything at a client that is older than the row's epoch.
    Client(ClientId),
    /// Every token of a signing key.
    Key(KeyId),
    /// Everything that is older than the row's epoch.
    Global,
}

impl Target {
    /// How far it reaches.
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

    /// The session that lives on, if one does.
    #[must_use]
    pub const fn keep(&self) -> Option<SessionId> {
        match self {
            Self::User { keep, .. } => *keep,
            Self::Token(_) | Self::Session(_) | Self::Client(_) | Self::Key(_) | Self::Global => None,
        }
    }

    /// The reverse of [`Target::level`], [`Target::id`] and [`Target::keep`]; none if they do not fit together.
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

/// A revocation as recorded: one row, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What.
    pub target: Target,
    /// At the levels user, client and global: what carries a smaller epoch is dead. 0 at the others.
    pub epoch: i64,
    /// When nothing that it concerns can be alive any more.
    pub expires: UnixMillis,
    /// When it was recorded.
    pub revoked: UnixMillis,
}

/// What a token or a session stands on: each of these can be revoked. In place for one party, as most have: it is kept with
/// every verified token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSubject {
    /// Access tokens: its own `jti`, its `root`, those of its actors.
    pub tokens: SmallVec<[TokenId; 1]>,
    /// Sessions: its own, those of its actors.
    pub sessions: SmallVec<[SessionId; 1]>,
    /// The key that signed it.
    pub key: Option<KeyId>,
    /// Epochs, one entry for the subject and one an actor.
    pub epochs: SmallVec<[EpochSet; 1]>,
}

/// The epochs of one party to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSet {
    /// The user, if the party is one.
    pub user: Option<UserId>,
    /// Whose epoch `epochs.client` is.
    pub client: ClientId,
    /// The session that a user revocation may have kept.
    pub session: Option<SessionId>,
    /// The epochs.
    pub epochs: Epochs,
}

impl RevocationSubject {
    /// What an access token stands on.
    #[must_use]
    pub fn of_claims(claims: &Claims, key: KeyId) -> Self {
        let mut revocation_subject = Self {
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
        revocation_subject.tokens.extend(claims.root);
        for actor in claims.actors() {
            revocation_subject.tokens.extend(actor.jti);
            revocation_subject.sessions.extend(actor.sid);
            revocation_subject.epochs.push(EpochSet {
                user: actor.sub.parse().ok(),
                client: actor.epo.client_id.clone(),
                session: actor.sid,
                epochs: actor.epo.epochs,
            });
        }
        revocation_subject
    }

    /// What a session stands on.
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

    /// Whether `revocation` kills it. The one definition of *dead*; the index answers the same from its maps.
    #[must_use]
    pub fn is_revoked_by(&self, revocation: &Revocation) -> bool {
        match &revocation.target {
            Target::Token(id) => self.tokens.contains(id),
            Target::Session(id) => self.sessions.contains(id),
            Target::Key(id) => self.key.as_ref() == Some(id),
            Target::User { id, keep } => self.epochs.iter().any(|s| {
                s.user == Some(*id) && s.epochs.user < revocation.epoch && (keep.is_none() || s.session != *keep)
            }),
            Target::Client(id) => self
                .epochs
                .iter()
                .any(|s| s.client == *id && s.epochs.client < revocation.epoch),
            Target::Global => self.epochs.iter().any(|s| s.epochs.global < revocation.epoch),
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
    fn a_user_revocation_kills_older_sessions_except_the_kept_one() {
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
        assert!(!of(7, 9).is_revoked_by(&keeping), "the kept session lives");
        assert!(!of(8, 10).is_revoked_by(&keeping), "a later login lives");
        let all = row(Target::User { id: user, keep: None }, 11);
        assert!(
            of(7, 9).is_revoked_by(&all),
            "a later row kills what an earlier one kept"
        );
    }

    #[test]
    fn every_level_has_its_text_and_back() {
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
