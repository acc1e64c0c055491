//! The messages of the stream: revocations as JSON, with a version.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::model::revocation::{Level, Revocation, Target};
use crate::model::{Error, Result, SessionId};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Message {
    v: u32,
    revocations: Vec<EncodedRevocation>,
}

#[derive(Serialize, Deserialize)]
struct EncodedRevocation {
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
    let encoded = |revocation: &Revocation| EncodedRevocation {
        level: revocation.target.level().as_str().to_owned(),
        id: revocation.target.id(),
        keep: revocation.target.keep(),
        epoch: revocation.epoch,
        expires: revocation.expires,
        revoked: revocation.revoked,
    };
    let message = Message {
        v: VERSION,
        revocations: revocations.iter().map(encoded).collect(),
    };
    serde_json::to_vec(&message).map_err(Error::internal)
}

/// The revocations of a message. None if it cannot be read, for example because a later version wrote it; the caller
/// must then assume that it missed revocations.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Revocation>> {
    let message: Message = serde_json::from_slice(bytes).ok()?;
    if message.v != VERSION {
        return None;
    }
    let decoded = |encoded: EncodedRevocation| {
        Some(Revocation {
            target: Target::from_parts(Level::named(&encoded.level)?, &encoded.id, encoded.keep)?,
            epoch: encoded.epoch,
            expires: encoded.expires,
            revoked: encoded.revoked,
        })
    };
    message.revocations.into_iter().map(decoded).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{ClientId, UserId};

    fn revocation(target: Target) -> Revocation {
        Revocation {
            target,
            epoch: 1_700_000_000_001,
            expires: UnixMillis(5),
            revoked: UnixMillis(4),
        }
    }

    #[test]
    fn decoding_returns_the_encoded_revocations() {
        let (user, session) = (UserId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let revocations = vec![
            revocation(Target::User {
                id: user,
                keep: Some(session),
            }),
            revocation(Target::User { id: user, keep: None }),
            revocation(Target::Session(session)),
            revocation(Target::Client(ClientId::default())),
            revocation(Target::Global),
        ];
        assert_eq!(decode(&encode(&revocations).unwrap()), Some(revocations));
    }

    #[test]
    fn messages_that_cannot_be_read_decode_to_none() {
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
