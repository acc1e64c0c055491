//! Older hashes: phpass, SHA-crypt and salted SHA. Most are cheap to guess, which is one more reason to replace them at the next
//! login.

use aws_lc_rs::digest;
use base64ct::{Base64ShaCrypt, Encoding as _};
use md5::{Digest as _, Md5};
use sha_crypt::{PasswordHashRef, PasswordVerifier as _};

use super::encoding::{base64, number};
use super::{Digest, UnusableHash};
use crate::secret::same;

/// phpass's portable hash: MD5, repeated.
pub(in crate::password) struct Phpass {
    rounds: u32,
    salt: [u8; 8],
    tag: [u8; 16],
}

impl Phpass {
    const MIN_LOG2: u32 = 7;
    const MAX_LOG2: u32 = 20;

    /// Parses `$P$…` after the name: one character for the rounds, eight of the salt, 22 of the hash.
    pub(super) fn parse(fields: &str) -> Result<Self, UnusableHash> {
        const MALFORMED: UnusableHash = UnusableHash("phpass: malformed");
        let bytes: &[u8; 31] = fields.as_bytes().try_into().map_err(|_| MALFORMED)?;
        let [log2, rest @ ..] = bytes;
        let log2 = match log2 {
            b'.'..=b'9' => u32::from(log2 - b'.'),
            b'A'..=b'Z' => u32::from(log2 - b'A') + 12,
            _ => u32::MAX,
        };
        if !(Self::MIN_LOG2..=Self::MAX_LOG2).contains(&log2) {
            return Err(UnusableHash("phpass: the rounds are out of bounds"));
        }
        let (salt, hash) = rest.split_first_chunk().ok_or(MALFORMED)?;
        let mut tag = [0; 16];
        if Base64ShaCrypt::decode(hash, &mut tag).map_err(|_| MALFORMED)?.len() != 16 {
            return Err(MALFORMED);
        }
        Ok(Self {
            rounds: 1 << log2,
            salt: *salt,
            tag,
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let mut state = Md5::new().chain_update(self.salt).chain_update(password).finalize();
        for _ in 0..self.rounds {
            state = Md5::new().chain_update(state).chain_update(password).finalize();
        }
        same(&state, &self.tag)
    }
}

/// A hash of `crypt(3)` with SHA-256 or SHA-512: `$5$` or `$6$`.
pub(in crate::password) struct ShaCrypt(String);

impl ShaCrypt {
    const ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
    const MAX_SALT: usize = 16;

    /// Parses a hash whose `text` lacks the first `$`; `fields` is the part after the name.
    pub(super) fn parse(text: &str, fields: &str, digest: Digest) -> Result<Self, UnusableHash> {
        const MALFORMED: UnusableHash = UnusableHash("SHA-crypt: malformed");
        let fields: Vec<&str> = fields.split('$').collect();
        let (salt, tag) = match fields[..] {
            [salt, tag] => (salt, tag),
            [rounds, salt, tag] => {
                let rounds = rounds.strip_prefix("rounds=").and_then(number).ok_or(MALFORMED)?;
                if !Self::ROUNDS.contains(&rounds) {
                    return Err(UnusableHash("SHA-crypt: the rounds are out of bounds"));
                }
                (salt, tag)
            }
            _ => return Err(MALFORMED),
        };
        let text = format!("${text}");
        let length = digest.algorithm().output_len();
        let decoded = Base64ShaCrypt::decode(tag, &mut [0; 64]).is_ok_and(|tag| tag.len() == length);
        if salt.is_empty() || salt.len() > Self::MAX_SALT || !decoded || PasswordHashRef::new(&text).is_err() {
            return Err(MALFORMED);
        }
        Ok(Self(text))
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        sha_crypt::ShaCrypt::default()
            .verify_password(password, self.0.as_str())
            .is_ok()
    }
}

/// `{SSHA}` and its successors: one digest of the password and the salt.
pub(in crate::password) struct SaltedSha {
    digest: Digest,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

impl SaltedSha {
    const SALT: std::ops::RangeInclusive<usize> = 4..=64;

    /// Parses the base64 of the digest and the salt.
    pub(super) fn parse(digest: Digest, text: &str) -> Result<Self, UnusableHash> {
        let bytes = base64(text).ok_or(UnusableHash("salted SHA: malformed"))?;
        let (tag, salt) = bytes
            .split_at_checked(digest.algorithm().output_len())
            .filter(|(_, salt)| Self::SALT.contains(&salt.len()))
            .ok_or(UnusableHash("salted SHA: the salt or the hash has a bad length"))?;
        Ok(Self {
            digest,
            salt: salt.to_vec(),
            tag: tag.to_vec(),
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let mut context = digest::Context::new(self.digest.algorithm());
        context.update(password);
        context.update(&self.salt);
        same(context.finish().as_ref(), &self.tag)
    }
}
