//! A strict parser of the JWS compact serialisation (RFC 7515 §7.1), and the check of its signature.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::json;
use super::public::PublicKey;
use super::verify::ACCESS_TOKEN_TYPE;
use super::verifying::VerifyingKeys;
use crate::model::{Algorithm, InactiveReason};

/// The longest accepted token, in bytes. `Issue` makes none over 3.5 KiB.
pub const MAX_LEN: usize = 4096;

/// Memory for the decoded parts of one token, so that parsing allocates none.
pub struct Scratch([u8; DECODED]);

/// How many bytes [`MAX_LEN`] characters of base64 decode to.
const DECODED: usize = MAX_LEN / 4 * 3;

impl Scratch {
    /// New, unused memory.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; DECODED])
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The members of a JOSE header that this service looks at (RFC 7515 §4.1). Unknown members that are not critical are
/// ignored, as §4 requires.
#[derive(Default, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says whether a member of the object is present"
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
    /// The header of the tokens that this key signs.
    fn of(key: &'a PublicKey) -> Self {
        Self {
            alg: key.algorithm().as_str().into(),
            typ: Some(ACCESS_TOKEN_TYPE.into()),
            kid: Some(key.id().as_str().into()),
            ..Self::default()
        }
    }
}

/// A JWS in three decoded parts. Nothing in it is verified yet.
pub struct Jws<'a> {
    header: Header<'a>,
    signed: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Jws<'a> {
    /// Parses a token; `None` if it is malformed.
    ///
    /// A well-formed token has at most [`MAX_LEN`] bytes and exactly three parts of base64url, without padding and without
    /// stray bits at the end, so that a token has one spelling only. Its header is a JSON object with `alg`, with members of
    /// the right types and without duplicates. The header that one of `keys` writes is recognised by its text and not parsed.
    #[must_use]
    pub fn parse(token: &'a str, keys: &'a VerifyingKeys, scratch: &'a mut Scratch) -> Option<Self> {
        if token.len() > MAX_LEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        // A further part would leave a dot in the payload, which is not base64url.
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

    /// The decoded payload.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header's `kid`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Whether the header's `typ` is this media type, in any case, with or without `application/` (RFC 7515 §4.1.9).
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

    /// The header's algorithm; `None` if this service does not support it, or does not support another demand of the
    /// header: critical extensions, an unencoded payload (RFC 7797), a nested token, a key inside the token (RFC 8725 §3.10).
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        let header = &self.header;
        let has_unsupported_member =
            header.crit || header.b64 || header.cty || header.jku || header.jwk || header.x5u || header.x5c;
        Algorithm::named(&header.alg).filter(|_| !has_unsupported_member)
    }

    /// Checks that `key` signed this JWS. The key decides the algorithm, and the header must name the same (RFC 8725 §3.1).
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), InactiveReason> {
        let algorithm = self.algorithm().ok_or(InactiveReason::Unsupported)?;
        if algorithm == key.algorithm() && key.verifies(self.signed, self.signature) {
            Ok(())
        } else {
            Err(InactiveReason::BadSignature)
        }
    }

    /// Whether the signature has its canonical form; see [`PublicKey::is_canonical`].
    pub(super) fn is_canonical(&self, key: &PublicKey) -> bool {
        key.is_canonical(self.signature)
    }
}

/// Decodes `part` into the beginning of `scratch`; returns the bytes and the rest of `scratch`.
fn decode<'a>(part: &str, scratch: &'a mut [u8]) -> Option<(&'a [u8], &'a mut [u8])> {
    let len = URL_SAFE_NO_PAD.decode_slice(part, scratch).ok()?;
    let (decoded, rest) = scratch.split_at_mut(len);
    Some((decoded, rest))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The `data-encoding` crate rejects stray bits at the end, as RFC 4648 §3.5 permits.
        #[test]
        fn a_part_is_decoded_as_strictly_as_by_the_book(
            part in "[A-Za-z0-9_-]{0,140}|[A-D=+/ .é]{0,9}|[A-Za-z0-9_-]{16,100}[\\x00-\\x7fé][A-Za-z0-9_-]{16,60}",
        ) {
            let mut scratch = Scratch::new();
            let (decoded, book) = (decode(&part, &mut scratch.0), BASE64URL_NOPAD.decode(part.as_bytes()));
            prop_assert_eq!(decoded.map(|(bytes, _)| bytes.to_vec()), book.ok());
        }
    }

    #[test]
    fn the_parts_of_the_longest_token_fit_into_the_scratch_memory() {
        for header in 0..12 {
            for signature in 0..12 {
                let rest = MAX_LEN - 2 - header - signature;
                let mut scratch = &mut Scratch::new().0[..];
                for len in [header, rest, signature] {
                    if len % 4 == 1 {
                        break; // no base64 text has such a length
                    }
                    let decoded = decode(&"A".repeat(len), scratch);
                    scratch = decoded.expect("it fits").1;
                }
            }
        }
    }
}
