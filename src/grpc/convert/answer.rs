//! The encoded answers of Validate.
//!
//! `ValidateResponse` is encoded here rather than by generated code because of its largest part: the claims of a token are
//! encoded once and cached with it, so that the answer about a cached token copies none of its strings. A test compares the
//! bytes with those of the generated code.

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, message};

use super::encoded_answers::EncodedAnswers;
use super::token::validation;
use crate::keys::verified::VerifiedToken;
use crate::model::InactiveReason;
use crate::proto;
use crate::proto::convert::claims::claims;
use crate::proto::convert::time::timestamp;
use crate::validator::Validation;

/// An answer of Validate.
#[derive(Debug)]
pub enum ValidateAnswer {
    /// Validated here.
    Local(Validation),
    /// The answer of another Countersign, passed on unchanged.
    Upstream(Box<proto::ValidateResponse>),
}

/// The tags of `ValidateResponse`. All are below 16, so that a key takes one byte.
const ACTIVE: u32 = 1;
const CLAIMS: u32 = 2;
const REASON: u32 = 3;
const AS_OF: u32 = 4;
const CACHE_UNTIL: u32 = 5;

impl ValidateAnswer {
    /// The answer as a message.
    #[must_use]
    pub fn into_response(self) -> proto::ValidateResponse {
        match self {
            Self::Local(local) => validation(&local),
            Self::Upstream(response) => *response,
        }
    }

    /// The number of bytes that [`ValidateAnswer::encode`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let validation = match self {
            Self::Local(validation) => validation,
            Self::Upstream(response) => return response.encoded_len(),
        };
        let token = match &validation.token {
            Ok(token) => 2 + with_encoded_claims(token, |claims| 1 + length_delimited(claims.len())),
            Err(reason) => 1 + encoded_len_varint(enum_value(*reason)),
        };
        let time = |tag, at| message::encoded_len(tag, &timestamp(at));
        token + time(AS_OF, validation.as_of) + validation.cache_until.map_or(0, |at| time(CACHE_UNTIL, at))
    }

    /// Encodes the answer as a `ValidateResponse`.
    pub fn encode(&self, out: &mut impl BufMut) {
        let validation = match self {
            Self::Local(validation) => validation,
            Self::Upstream(response) => return response.encode_raw(out),
        };
        match &validation.token {
            Ok(token) => {
                encode_key(ACTIVE, WireType::Varint, out);
                encode_varint(1, out);
                encode_key(CLAIMS, WireType::LengthDelimited, out);
                with_encoded_claims(token, |claims| {
                    encode_varint(claims.len() as u64, out);
                    out.put_slice(claims);
                });
            }
            Err(reason) => {
                encode_key(REASON, WireType::Varint, out);
                encode_varint(enum_value(*reason), out);
            }
        }
        message::encode(AS_OF, &timestamp(validation.as_of), out);
        if let Some(at) = validation.cache_until {
            message::encode(CACHE_UNTIL, &timestamp(at), out);
        }
    }
}

/// Encodes the answers as a `ValidateBatchResponse`.
pub fn encode_batch(answers: &[ValidateAnswer], out: &mut impl BufMut) {
    const RESPONSES: u32 = 1;
    for answer in answers {
        encode_key(RESPONSES, WireType::LengthDelimited, out);
        encode_varint(answer.encoded_len() as u64, out);
        answer.encode(out);
    }
}

/// Calls `read` with the encoded claims of the token, which are cached with it.
fn with_encoded_claims<R>(token: &VerifiedToken, read: impl FnOnce(&[u8]) -> R) -> R {
    let encode = || Bytes::from(claims(&token.claims, &token.key_id).encode_to_vec());
    match token.extensions.get::<EncodedAnswers>() {
        Some(cached) => read(cached.claims.get_or_init(encode)),
        None => read(&encode()),
    }
}

fn length_delimited(len: usize) -> usize {
    encoded_len_varint(len as u64) + len
}

fn enum_value(reason: InactiveReason) -> u64 {
    // The values of the enum start at zero.
    u64::try_from(i32::from(proto::InactiveReason::from(reason))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::UnixMillis;
    use crate::grpc::convert::token::validation;
    use crate::keys::verified::VerifiedToken;
    use crate::model::{InactiveReason, KeyId};

    fn token(extra: &serde_json::Value) -> Arc<VerifiedToken> {
        let mut said = serde_json::json!({
            "iss": "https://issuer", "sub": "0190b6a8-1111-7000-8000-000000000001", "aud": ["api", "mail"],
            "client_id": "gateway", "iat": 1_700_000_000, "exp": 1_700_000_900,
            "jti": "0190b6a8-1111-7000-8000-000000000002", "scope": "read write",
            "sid": "0190b6a8-1111-7000-8000-000000000003", "roles": ["editor"],
            "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"},
        });
        said["ext"] = extra.clone();
        let key_id = KeyId::parse(&"k".repeat(43), "key_id").unwrap();
        let claims = serde_json::from_value(said).unwrap();
        Arc::new(VerifiedToken::new(claims, key_id, Duration::ZERO))
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_code() {
        let token = token(&serde_json::json!({"team": "blue", "long": "x".repeat(300)}));
        let tokens = [Ok(token.clone()), Ok(token)]
            .into_iter()
            .chain(InactiveReason::ALL.map(Err));
        let mut answers = Vec::new();
        let mut generated = Vec::new();
        for (token, as_of) in tokens.zip([0, 1, -1, 999, 1_700_000_000_123].into_iter().cycle()) {
            for cache_until in [None, Some(UnixMillis(0)), Some(UnixMillis(1_700_000_000_001))] {
                let of = || Validation {
                    token: token.clone(),
                    as_of: UnixMillis(as_of),
                    cache_until,
                };
                let expected = validation(&of());
                let answer = ValidateAnswer::Local(of());
                let mut bytes = Vec::new();
                answer.encode(&mut bytes);
                assert_eq!(bytes, expected.encode_to_vec());
                assert_eq!(answer.encoded_len(), bytes.len());
                answers.push(answer);
                generated.push(expected.clone());
                answers.push(ValidateAnswer::Upstream(Box::new(expected.clone())));
                generated.push(expected);
            }
        }
        let mut bytes = Vec::new();
        encode_batch(&answers, &mut bytes);
        let expected = proto::ValidateBatchResponse { responses: generated };
        assert_eq!(bytes, expected.encode_to_vec());
    }
}
