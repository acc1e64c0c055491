//! The refresh token on the wire.
//!
//! `csr_` + base64url (no padding) of, all numbers big-endian:
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 4 | id of the refresh key that made the tag |
//! | 16 | user id |
//! | 16 | session id |
//! | 4 | generation |
//! | 8 + 8 + 8 | epochs: global, user, client |
//! | 8 | absolute expiry, Unix milliseconds |
//! | 1 + n | client id, n = 3–64 |
//! | 32 | session secret, the same in every generation |
//! | 16 | tag: HMAC-SHA256(refresh key, all before it), cut |
//! | 4 | CRC-32 (IEEE) of all before it, for scanners that look for leaked secrets |
//!
//! As a regular expression: `csr_[A-Za-z0-9_-]{172,254}`.
//!
//! The tag proves that Countersign made the token, so its content is trusted before any store is asked, and a forged or
//! mistyped token costs no store call. The successor is the same token with the next generation and a new tag: a repeated
//! request gets the same bytes, and no token is stored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::keys::refresh::RefreshKey;
use crate::model::{ClientId, Epochs, SessionId, UserId};
use crate::secret::{SecretBytes, SecretText, sha256};

/// The first characters of every refresh token.
pub const PREFIX: &str = "csr_";

/// The longest refresh token, in characters.
pub const MAX_LEN: usize = PREFIX.len() + 254;

const VERSION: u8 = 1;
const FIXED: usize = 1 + 4 + 16 + 16 + 4 + 24 + 8 + 1;
const SECRET: usize = 32;
const TAG: usize = 16;
const CRC: usize = 4;

/// The content of a refresh token.
#[derive(Clone)]
pub struct RefreshToken {
    /// The user.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The generation: how often the session was refreshed.
    pub generation: u32,
    /// The epochs under which the session was started.
    pub epochs: Epochs,
    /// When the session ends in any case.
    pub expires: UnixMillis,
    /// The client.
    pub client: ClientId,
    /// The session secret: it proves possession, and the store keeps its SHA-256.
    pub secret: SecretBytes<SECRET>,
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("session", &self.session)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// SHA-256 of the session secret, which the store compares.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        sha256(self.secret.expose())
    }

    /// The token as text, tagged with `key`, whose id is `key_id`.
    #[must_use]
    pub fn encode(&self, key_id: u32, key: &RefreshKey) -> SecretText {
        let client = self.client.as_str().as_bytes();
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(FIXED + client.len() + SECRET + TAG + CRC));
        bytes.push(VERSION);
        bytes.extend_from_slice(&key_id.to_be_bytes());
        bytes.extend_from_slice(self.user.as_bytes());
        bytes.extend_from_slice(self.session.as_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        for number in [self.epochs.global, self.epochs.user, self.epochs.client, self.expires.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        // A client id is at most 64 bytes, by its type.
        bytes.push(u8::try_from(client.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(client);
        bytes.extend_from_slice(self.secret.expose());
        let tag = key.tag(&bytes);
        bytes.extend_from_slice(&tag);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        let mut text = String::with_capacity(MAX_LEN);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&*bytes, &mut text);
        SecretText::new(text)
    }

    /// The id of the refresh key that `text` names, if its checksum is right. Unverified.
    #[must_use]
    pub fn claimed_key(text: &str) -> Option<u32> {
        if text.len() > MAX_LEN {
            return None;
        }
        let bytes = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        let (body, crc) = bytes.split_last_chunk::<CRC>()?;
        let mut fields = Fields(body);
        let sound = crc32fast::hash(body) == u32::from_be_bytes(*crc) && fields.take::<1>()? == [VERSION];
        fields.take().map(u32::from_be_bytes).filter(|_| sound)
    }

    /// Reads `text`, if `key` has the refresh key that it names and the tag is that key's. `None` for everything else: a
    /// token that is mistyped, forged, cut, of another deployment or under a removed key.
    #[must_use]
    pub fn decode<'k>(text: &str, key: impl FnOnce(u32) -> Option<&'k RefreshKey>) -> Option<Self> {
        Self::read(text, |id, body, tag| key(id).is_some_and(|key| key.verifies(body, tag)))
    }

    /// Reads `text` without verifying its tag, to display its content.
    #[must_use]
    pub fn unverified(text: &str) -> Option<Self> {
        Self::read(text, |_, _, _| true)
    }

    fn read(text: &str, is_genuine: impl FnOnce(u32, &[u8], &[u8; TAG]) -> bool) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let bytes = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        let (body, crc) = bytes.split_last_chunk::<CRC>()?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (body, tag) = body.split_last_chunk::<TAG>()?;
        let mut fields = Fields(body);
        if fields.take::<1>()? != [VERSION] {
            return None;
        }
        if !is_genuine(u32::from_be_bytes(fields.take()?), body, tag) {
            return None;
        }
        let user = UserId(Uuid::from_bytes(fields.take()?));
        let session = SessionId(Uuid::from_bytes(fields.take()?));
        let generation = u32::from_be_bytes(fields.take()?);
        let epochs = Epochs {
            global: fields.number()?,
            user: fields.number()?,
            client: fields.number()?,
        };
        let expires = UnixMillis(fields.number()?);
        let [client_len] = fields.take::<1>()?;
        let client = std::str::from_utf8(fields.slice(usize::from(client_len))?).ok()?;
        let client = ClientId::parse(client, "refresh_token").ok()?;
        let secret = SecretBytes::new(fields.take()?);
        fields.0.is_empty().then_some(Self {
            user,
            session,
            generation,
            epochs,
            expires,
            client,
            secret,
        })
    }
}

/// The bytes that are left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn number(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
#[path = "refresh_token_tests.rs"]
mod tests;
