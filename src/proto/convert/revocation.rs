//! Revocations: the server sends them to watching clients, which apply them.

use super::time::{moment, timestamp};
use crate::model::{self, Error, Level, Result, SessionId, Target};
use crate::proto;

impl From<&model::Revocation> for proto::Revocation {
    fn from(revocation: &model::Revocation) -> Self {
        Self {
            level: proto::RevocationLevel::from(revocation.target.level()).into(),
            id: revocation.target.id(),
            epoch: revocation.epoch,
            keep_session_id: revocation.target.keep().map(|id| id.to_string()).unwrap_or_default(),
            expires_at: Some(timestamp(revocation.expires)),
            revoked_at: Some(timestamp(revocation.revoked)),
        }
    }
}

impl From<Level> for proto::RevocationLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Token => Self::Token,
            Level::Session => Self::Session,
            Level::User => Self::User,
            Level::Client => Self::Client,
            Level::Key => Self::Key,
            Level::Global => Self::Global,
        }
    }
}

/// The revocation of a message.
///
/// # Errors
/// `INVALID_REQUEST` if a field cannot be read, for instance because the server is newer. A watching client must not ignore
/// such a revocation: it takes a new snapshot or stops answering.
pub fn revocation(message: &proto::Revocation) -> Result<model::Revocation> {
    let unreadable = |field: &'static str| Error::invalid(field, "cannot be read; the server may be newer");
    let level = match message.level() {
        proto::RevocationLevel::Unspecified => return Err(unreadable("level")),
        proto::RevocationLevel::Token => Level::Token,
        proto::RevocationLevel::Session => Level::Session,
        proto::RevocationLevel::User => Level::User,
        proto::RevocationLevel::Client => Level::Client,
        proto::RevocationLevel::Key => Level::Key,
        proto::RevocationLevel::Global => Level::Global,
    };
    let keep = match message.keep_session_id.as_str() {
        "" => None,
        id => Some(SessionId::parse(id, "keep_session_id")?),
    };
    let target = Target::from_parts(level, &message.id, keep).ok_or_else(|| unreadable("id"))?;
    let expires = message.expires_at.as_ref().ok_or_else(|| unreadable("expires_at"))?;
    let revoked = message.revoked_at.as_ref().ok_or_else(|| unreadable("revoked_at"))?;
    Ok(model::Revocation {
        target,
        epoch: message.epoch,
        expires: moment(expires, "expires_at")?,
        revoked: moment(revoked, "revoked_at")?,
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::UnixMillis;
    use crate::model::{ClientId, KeyId, TokenId, UserId};

    #[test]
    fn revocations_of_every_level_survive_the_round_trip() {
        let session = SessionId(Uuid::from_u128(1));
        let user = UserId(Uuid::from_u128(2));
        let targets = [
            Target::Token(TokenId(Uuid::from_u128(3))),
            Target::Session(session),
            Target::User { id: user, keep: None },
            Target::User {
                id: user,
                keep: Some(session),
            },
            Target::Client(ClientId::default()),
            Target::Key(KeyId::parse(&"k".repeat(43), "key_id").unwrap()),
            Target::Global,
        ];
        for target in targets {
            let sent = model::Revocation {
                target,
                epoch: 7,
                expires: UnixMillis(1_700_000_000_001),
                revoked: UnixMillis(1_600_000_000_002),
            };
            assert_eq!(revocation(&proto::Revocation::from(&sent)).unwrap(), sent);
        }
    }

    #[test]
    fn an_unreadable_revocation_is_an_error() {
        let good = proto::Revocation::from(&model::Revocation {
            target: Target::Global,
            epoch: 1,
            expires: UnixMillis(1),
            revoked: UnixMillis(0),
        });
        let broken = [
            proto::Revocation {
                level: 99,
                ..good.clone()
            },
            proto::Revocation {
                level: 1,
                id: "not an id".into(),
                ..good.clone()
            },
            proto::Revocation {
                expires_at: None,
                ..good.clone()
            },
            proto::Revocation {
                keep_session_id: "x".into(),
                ..good
            },
        ];
        for message in broken {
            assert!(revocation(&message).is_err(), "{message:?}");
        }
    }
}
