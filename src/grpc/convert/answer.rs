//! What Validate answers, in the bytes of the wire.
//!
//! `ValidateResponse` is written by hand because of its largest part: the claims are encoded once for a token and kept
//! with it, so that a token that was seen before costs no copy of each of its strings. A test holds that the bytes are
//! those that the generated code makes.

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, message};

use crate::keys::cache::Known;
use crate::proto;
use crate::proto::convert::claims::claims;
use crate::proto::convert::time::timestamp;
use crate::token::Validation;

/// An answer of Validate.
#[derive(Debug)]
pub enum Answer {
    /// Judged here.
    Judged(Validation),
    /// As another Countersign told it.
    Told(Box<proto::ValidateResponse>),
}

/// The tags of `ValidateResponse`; all are below 16, so that a key is one byte.
const ACTIVE: u32 = 1;
const CLAIMS: u32 = 2;
const REASON: u32 = 3;
const AS_OF: u32 = 4;
const CACHE_UNTIL: u32 = 5;

impl Answer {
    /// How many bytes [`Answer::encode`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let validation = match self {
            Self::Told(response) => return response.encoded_len(),
            Self::Judged(validation) => validation,
        };
        let verdict = match &validation.verdict {
            Ok(known) => 2 + encoded_claims(known).map_or(0, |bytes| 1 + delimited(bytes.len())),
            Err(reason) => 1 + encoded_len_varint(number(*reason)),
        };
        let time = |tag, at| message::encoded_len(tag, &timestamp(at));
        verdict + time(AS_OF, validation.as_of) + validation.cache_until.map_or(0, |at| time(CACHE_UNTIL, at))
    }

    /// Writes it as a `ValidateResponse`.
    pub fn encode(&self, out: &mut impl BufMut) {
        let validation = match self {
            Self::Told(response) => return response.encode_raw(out),
            Self::Judged(validation) => validation,
        };
        match &validation.verdict {
            Ok(known) => {
                encode_key(ACTIVE, WireType::Varint, out);
                encode_varint(1, out);
                if let Some(bytes) = encoded_claims(known) {
                    encode_key(CLAIMS, WireType::LengthDelimited, out);
                    encode_varint(bytes.len() as u64, out);
                    out.put_slice(bytes);
                }
            }
            Err(reason) => {
                encode_key(REASON, WireType::Varint, out);
                encode_varint(number(*reason), out);
            }
        }
        message::encode(AS_OF, &timestamp(validation.as_of), out);
        if let Some(at) = validation.cache_until {
            message::encode(CACHE_UNTIL, &timestamp(at), out);
        }
    }
}

/// Writes these answers as a `ValidateBatchResponse`.
pub fn encode_batch(answers: &[Answer], out: &mut impl BufMut) {
    const RESPONSES: u32 = 1;
    for answer in answers {
        encode_key(RESPONSES, WireType::LengthDelimited, out);
        encode_varint(answer.encoded_len() as u64, out);
        answer.encode(out);
    }
}

fn encoded_claims(known: &Known) -> Option<&Bytes> {
    let key = known.revocation_subject.key.as_ref()?;
    let encode = || Bytes::from(claims(&known.claims, key).encode_to_vec());
    Some(known.encoded.get_or_init(encode))
}

fn delimited(len: usize) -> usize {
    encoded_len_varint(len as u64) + len
}

fn number(reason: crate::model::InactiveReason) -> u64 {
    // The numbers of an enum start at zero.
    u64::try_from(i32::from(proto::InactiveReason::from(reason))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::UnixMillis;
    use crate::grpc::convert::token::validation;
    use crate::keys::verify::Verified;
    use crate::model::{InactiveReason, KeyId};

    fn known(extra: &serde_json::Value) -> Arc<Known> {
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
        Arc::new(Known::new(Verified { claims, key_id }, 1, Duration::ZERO))
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_code() {
        let known = known(&serde_json::json!({"team": "blue", "long": "x".repeat(300)}));
        let verdicts = [Ok(known.clone()), Ok(known)]
            .into_iter()
            .chain(InactiveReason::ALL.map(Err));
        let mut answers = Vec::new();
        let mut generated = Vec::new();
        for (verdict, as_of) in verdicts.zip([0, 1, -1, 999, 1_700_000_000_123].into_iter().cycle()) {
            for cache_until in [None, Some(UnixMillis(0)), Some(UnixMillis(1_700_000_000_001))] {
                let of = || Validation {
                    verdict: verdict.clone(),
                    as_of: UnixMillis(as_of),
                    cache_until,
                };
                let expected = validation(&of());
                let answer = Answer::Judged(of());
                let mut bytes = Vec::new();
                answer.encode(&mut bytes);
                assert_eq!(bytes, expected.encode_to_vec());
                assert_eq!(answer.encoded_len(), bytes.len());
                answers.push(answer);
                generated.push(expected.clone());
                answers.push(Answer::Told(Box::new(expected.clone())));
                generated.push(expected);
            }
        }
        let mut bytes = Vec::new();
        encode_batch(&answers, &mut bytes);
        let expected = proto::ValidateBatchResponse { responses: generated };
        assert_eq!(bytes, expected.encode_to_vec());
    }
}
