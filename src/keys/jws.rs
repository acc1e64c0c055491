//! JWS compact serialisation (RFC 7515 §7.1), read strictly, and the one check of a signature.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::json;
use super::public::PublicKey;
use crate::model::{Algorithm, InactiveReason};

/// The longest token that is looked at, in bytes. Issue makes none over 3.5 KiB.
pub const MAX_LEN: usize = 4096;

/// Where the decoded parts of one token are put: no allocation.
pub struct Scratch([u8; DECODED]);

/// What [`MAX_LEN`] characters of base64 decode to, and what the decoder wants to spare for each part.
const DECODED: usize = MAX_LEN / 4 * 3 + 3 * 3;

impl Scratch {
    /// An empty one.
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

/// What a header says, as far as it matters to us (RFC 7515 §4.1). Members that we do not know and that are not critical
/// are ignored, as §4 demands. In the order in which we write it.
#[derive(Deserialize, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a member of the object, there or not"
)]
struct Header<'a> {
    #[serde(borrow, default, deserialize_with = "json::text")]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    crit: bool,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    b64: bool,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    cty: bool,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    jku: bool,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    jwk: bool,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    x5u: bool,
    #[serde(default, deserialize_with = "json::seen", skip_serializing)]
    x5c: bool,
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
    /// with `alg` and members of the right types, none of them twice.
    #[must_use]
    pub fn parse(token: &'a str, scratch: &'a mut Scratch) -> Option<Self> {
        if token.len() > MAX_LEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        // A second dot in the payload is not base64url: more than three parts end here.
        let (header, rest) = decode(header, &mut scratch.0)?;
        let (payload, rest) = decode(payload, rest)?;
        let (signature, _) = decode(signature, rest)?;
        Some(Self {
            header: json::own_object(header)?,
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

fn decode<'a>(part: &str, scratch: &'a mut [u8]) -> Option<(&'a [u8], &'a mut [u8])> {
    let len = URL_SAFE_NO_PAD.decode_slice(part, scratch).ok()?;
    let (decoded, rest) = scratch.split_at_mut_checked(len)?;
    Some((decoded, rest))
}
