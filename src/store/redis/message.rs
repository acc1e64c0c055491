//! What stands in one message of the stream: revocations, as JSON of a version.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::model::revocation::{Level, Revocation, Target};
use crate::model::{Error, Result, SessionId};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Message {
    v: u32,
    revocations: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    level: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<SessionId>,
    epoch: i64,
    expires: UnixMillis,
    revoked: UnixMillis,
}

pub(super) fn encode(revocations: &[Revocation]) -> Result<Vec<u8>> {
    let line = |revocation: &Revocation| Line {
        level: revocation.target.level().as_str().to_owned(),
        id: revocation.target.id(),
        keep: revocation.target.keep(),
        epoch: revocation.epoch,
        expires: revocation.expires,
        revoked: revocation.revoked,
    };
    let message = Message {
        v: VERSION,
        revocations: revocations.iter().map(line).collect(),
    };
    serde_json::to_vec(&message).map_err(Error::internal)
}

/// None if it cannot be read, for instance because a later version wrote it: then something is missed.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Revocation>> {
    let message: Message = serde_json::from_slice(bytes).ok()?;
    if message.v != VERSION {
        return None;
    }
    let revocation = |line: Line| {
        Some(Revocation {
            target: Target::from_parts(Level::named(&line.level)?, &line.id, line.keep)?,
            epoch: line.epoch,
            expires: line.expires,
            revoked: line.revoked,
        })
    };
    message.revocations.into_iter().map(revocation).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{ClientId, UserId};

    fn row(target: Target) -> Revocation {
        Revocation {
            target,
            epoch: 1_700_000_000_001,
            expires: UnixMillis(5),
            revoked: UnixMillis(4),
        }
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let (user, session) = (UserId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let rows = vec![
            row(Target::User {
                id: user,
                keep: Some(session),
            }),
            row(Target::User { id: user, keep: None }),
            row(Target::Session(session)),
            row(Target::Client(ClientId::default())),
            row(Target::Global),
        ];
        assert_eq!(decode(&encode(&rows).unwrap()), Some(rows));
    }

    #[test]
    fn what_cannot_be_understood_is_none() {
        for bytes in [
            &b""[..],
            b"{}",
            b"\xff\xfe",
            br#"{"v":2,"revocations":[]}"#,
            br#"{"v":1,"revocations":[{"level":"galaxy","epoch":1,"expires":1,"revoked":1}]}"#,
            br#"{"v":1,"revocations":[{"level":"user","id":"x","epoch":1,"expires":1,"revoked":1}]}"#,
        ] {
            assert_eq!(decode(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
