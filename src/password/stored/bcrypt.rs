//! bcrypt, of the password itself and of its digests.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{NO_PAD, STANDARD};
use zeroize::Zeroizing;

use super::UnusableHash;
use super::encoding::{number, to_hex};
use crate::model::{Error, Result};
use crate::secret::same;

const MAX_COST: u32 = 16;
/// The length of `$2b$CC$` and the salt.
const TAG_AT: usize = 29;
/// The bytes of its output that bcrypt keeps.
const TAG_LEN: usize = 23;
/// The bytes of a password that bcrypt uses.
const KEY_LEN: usize = 72;

const MALFORMED: UnusableHash = UnusableHash("bcrypt: malformed");

/// A bcrypt hash.
pub(in crate::password) struct Bcrypt {
    /// The hash as `$2b$…`.
    text: String,
    input: Input,
}

/// The bytes that bcrypt is computed of.
enum Input {
    /// The password.
    Password,
    /// The password, read like a `$2x$` hash: `crypt_blowfish` before 1.1 extended the sign of each byte.
    SignExtended,
    /// Django's `bcrypt_sha256`: the hexadecimal SHA-256.
    HexSha256,
    /// Version 1 of passlib's `bcrypt_sha256`: the base64 of the SHA-256.
    Base64Sha256,
    /// Version 2 of passlib's `bcrypt_sha256`: the base64 of the HMAC-SHA-256 under the text of the salt.
    Base64HmacSha256,
    /// WordPress since 6.8: the base64 of an HMAC-SHA-384 under a constant.
    WordPress,
}

impl Bcrypt {
    fn new(text: String, input: Input) -> Result<Self, UnusableHash> {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
        if !(4..=MAX_COST).contains(&parts.get_cost()) {
            return Err(UnusableHash("bcrypt: the cost is out of bounds"));
        }
        Ok(Self { text, input })
    }

    /// Parses `$2b$…` without its first `$`.
    pub(super) fn parse(text: &str) -> Result<Self, UnusableHash> {
        let input = if text.starts_with("2x$") {
            Input::SignExtended
        } else {
            Input::Password
        };
        Self::new(format!("${text}"), input)
    }

    /// Parses Django's `bcrypt_sha256$$2b$…` from `2b` on.
    pub(super) fn parse_django_sha256(text: &str) -> Result<Self, UnusableHash> {
        Self::new(format!("${text}"), Input::HexSha256)
    }

    /// Parses `$wp$2y$…` from `2y` on.
    pub(super) fn parse_wordpress(text: &str) -> Result<Self, UnusableHash> {
        Self::new(format!("${text}"), Input::WordPress)
    }

    /// Parses passlib's `$bcrypt-sha256$v=2,t=2b,r=COST$SALT$HASH`, or `2b,COST` of version 1, from the parameters on.
    pub(super) fn parse_passlib(fields: &str) -> Result<Self, UnusableHash> {
        let fields: Vec<&str> = fields.split('$').collect();
        let [parameters, salt, tag] = fields[..] else {
            return Err(MALFORMED);
        };
        let parameters: Vec<&str> = parameters.split(',').collect();
        let (kind, cost, input) = match parameters[..] {
            ["v=2", kind, cost] => (
                kind.strip_prefix("t="),
                cost.strip_prefix("r="),
                Input::Base64HmacSha256,
            ),
            [kind, cost] => (Some(kind), Some(cost), Input::Base64Sha256),
            _ => return Err(MALFORMED),
        };
        let (Some("2a" | "2b" | "2y"), Some(cost)) = (kind, cost.and_then(number)) else {
            return Err(MALFORMED);
        };
        Self::new(format!("$2b${cost:02}${salt}{tag}"), input)
    }

    pub(super) fn matches(&self, password: &[u8]) -> Result<bool> {
        let verify =
            |input: String| bcrypt::verify(Zeroizing::new(input).as_bytes(), &self.text).map_err(Error::internal);
        let keyed = |algorithm, key: &[u8]| {
            let tag = hmac::sign(&hmac::Key::new(algorithm, key), password);
            STANDARD.encode(tag)
        };
        let sha256 = || digest::digest(&digest::SHA256, password);
        match self.input {
            Input::Password => bcrypt::verify(password, &self.text).map_err(Error::internal),
            Input::SignExtended => self.matches_sign_extended(password),
            Input::HexSha256 => verify(to_hex(sha256().as_ref())),
            Input::Base64Sha256 => verify(STANDARD.encode(sha256())),
            Input::Base64HmacSha256 => {
                let salt = self.text.as_bytes().get(7..TAG_AT).unwrap_or_default();
                verify(keyed(hmac::HMAC_SHA256, salt))
            }
            Input::WordPress => verify(keyed(hmac::HMAC_SHA384, b"wp-sha384")),
        }
    }

    fn matches_sign_extended(&self, password: &[u8]) -> Result<bool> {
        let parts: bcrypt::HashParts = self.text.parse().map_err(Error::internal)?;
        // bcrypt repeats the password with its final zero, and reads it as 18 words. Bytes above 127 overwrote the bytes
        // before them in their word.
        let bytes = password.iter().chain(&[0]).cycle().take(KEY_LEN);
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(bytes.copied().collect());
        let word = |bytes: &[u8; 4]| {
            bytes
                .iter()
                .fold(0_u32, |word, byte| {
                    (word << 8) | i32::from(byte.cast_signed()).cast_unsigned()
                })
                .to_be_bytes()
        };
        let key: Vec<[u8; 4]> = bytes.as_chunks::<4>().0.iter().map(word).collect();
        let key = Zeroizing::new(key.concat());
        let computed = bcrypt::bcrypt(parts.get_cost(), parts.get_salt_raw(), &key);
        let computed = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD).encode(&computed[..TAG_LEN]);
        let tag = self.text.as_bytes().get(TAG_AT..).unwrap_or_default();
        Ok(same(computed.as_bytes(), tag))
    }
}
