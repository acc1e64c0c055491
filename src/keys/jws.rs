//! JWS compact serialisation (RFC 7515 §7.1), read strictly, and the one check of a signature.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use base64_simd::{AsOut as _, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::json;
use super::public::PublicKey;
use super::verify::ACCESS_TOKEN_TYPE;
use super::verifying::VerifyingKeys;
use crate::model::{Algorithm, InactiveReason};

/// The longest token that is looked at, in bytes. Issue makes none over 3.5 KiB.
pub const MAX_LEN: usize = 4096;

/// Where the decoded parts of one token are put: no allocation.
pub struct Scratch([MaybeUninit<u8>; DECODED]);

/// What [`MAX_LEN`] characters of base64 decode to.
const DECODED: usize = MAX_LEN / 4 * 3;

impl Scratch {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self([MaybeUninit::uninit(); DECODED])
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// What a header says, as far as it matters to us (RFC 7515 §4.1). Members that we do not know and that are not critical
/// are ignored, as §4 demands.
#[derive(Default, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a member of the object, there or not"
)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "json::seen")]
    crit: bool,
    #[serde(default, deserialize_with = "json::seen")]
    b64: bool,
    #[serde(default, deserialize_with = "json::seen")]
    cty: bool,
    #[serde(default, deserialize_with = "json::seen")]
    jku: bool,
    #[serde(default, deserialize_with = "json::seen")]
    jwk: bool,
    #[serde(default, deserialize_with = "json::seen")]
    x5u: bool,
    #[serde(default, deserialize_with = "json::seen")]
    x5c: bool,
}

impl<'a> Header<'a> {
    /// What the header of this key's tokens says.
    fn of(key: &'a PublicKey) -> Self {
        Self {
            alg: key.algorithm().as_str().into(),
            typ: Some(ACCESS_TOKEN_TYPE.into()),
            kid: Some(key.id().as_str().into()),
            ..Self::default()
        }
    }
}

/// A JWS in three parts, decoded; nothing about it is trusted yet.
pub struct Jws<'a> {
    header: Header<'a>,
    signed: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Jws<'a> {
    /// Takes a token apart. `None` unless it is at most [`MAX_LEN`] bytes, exactly three parts of base64url (without
    /// padding and without stray bits at the end, so that one token has one spelling), and a header that is a JSON object
    /// with `alg` and members of the right types, none of them twice. A header that one of `keys` writes is known and not
    /// read again.
    #[must_use]
    pub fn parse(token: &'a str, keys: &'a VerifyingKeys, scratch: &'a mut Scratch) -> Option<Self> {
        if token.len() > MAX_LEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        // A second dot in the payload is not base64url: more than three parts end here.
        let (header, rest) = if let Some(key) = keys.find_by_header(header) {
            (Header::of(key), &mut scratch.0[..])
        } else {
            let (header, rest) = decode(header, &mut scratch.0)?;
            (json::object(header)?, rest)
        };
        let (payload, rest) = decode(payload, rest)?;
        let (signature, _) = decode(signature, rest)?;
        Some(Self {
            header,
            signed: signed.as_bytes(),
            payload,
            signature,
        })
    }

    /// The payload, decoded.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header's `kid`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Whether the header's `typ` is this media type: case-insensitive, `application/` optional (RFC 7515 §4.1.9).
    #[must_use]
    pub fn is_type(&self, wanted: &str) -> bool {
        const PREFIX: &str = "application/";
        self.header.typ.as_deref().is_some_and(|typ| {
            let bare = match typ.get(..PREFIX.len()) {
                Some(start) if start.eq_ignore_ascii_case(PREFIX) => &typ[PREFIX.len()..],
                _ => typ,
            };
            bare.eq_ignore_ascii_case(wanted)
        })
    }

    /// The algorithm that the header names, if it is one of ours and the header asks for nothing that we do not do:
    /// critical extensions, an unencoded payload (RFC 7797), a nested token, a key from the token itself (RFC 8725 §3.10).
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        let header = &self.header;
        let asks_for_more =
            header.crit || header.b64 || header.cty || header.jku || header.jwk || header.x5u || header.x5c;
        Algorithm::named(&header.alg).filter(|_| !asks_for_more)
    }

    /// Whether `key` signed this: the key decides the algorithm, and the header must agree (RFC 8725 §3.1).
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), InactiveReason> {
        let algorithm = self.algorithm().ok_or(InactiveReason::Unsupported)?;
        if algorithm == key.algorithm() && key.verifies(self.signed, self.signature) {
            Ok(())
        } else {
            Err(InactiveReason::BadSignature)
        }
    }

    /// Whether the signature has the one form that we make of it.
    pub(super) fn is_canonical(&self, key: &PublicKey) -> bool {
        key.is_canonical(self.signature)
    }
}

/// The part in bytes, and what is left of the scratch.
fn decode<'a>(part: &str, scratch: &'a mut [MaybeUninit<u8>]) -> Option<(&'a [u8], &'a mut [MaybeUninit<u8>])> {
    // Four characters make three bytes; of a last group of two or three, one or two.
    let (decoded, rest) = scratch.split_at_mut_checked(part.len() * 3 / 4)?;
    let decoded = URL_SAFE_NO_PAD.decode(part.as_bytes(), decoded.as_out()).ok()?;
    Some((decoded, rest))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of another library, which says of itself that it keeps to RFC 4648 §3.5: no stray bits.
        #[test]
        fn a_part_is_decoded_as_strictly_as_by_the_book(
            part in "[A-Za-z0-9_-]{0,140}|[A-D=+/ .é]{0,9}|[A-Za-z0-9_-]{16,100}[\\x00-\\x7fé][A-Za-z0-9_-]{16,60}",
        ) {
            let mut scratch = Scratch::new();
            let (decoded, book) = (decode(&part, &mut scratch.0), general_purpose::URL_SAFE_NO_PAD.decode(&part));
            prop_assert_eq!(decoded.map(|(bytes, _)| bytes.to_vec()), book.ok());
        }
    }
}
