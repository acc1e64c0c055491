//! A strict parser of stored hashes, ours and imported ones, which refuses hashes that cost too much to compute.
//!
//! A hash contains its own cost parameters. Without bounds, a client that may import hashes, or an attacker with write access
//! to the database, could stop the service with one login: argon2 with `m=4294967295` takes 4 TiB. The bounds:
//!
//! | hash | accepted |
//! | --- | --- |
//! | argon2id, argon2i, argon2d | memory ≤ 256 MiB, memory × iterations ≤ 4 GiB, iterations ≤ 1,024, lanes ≤ 16 |
//! | bcrypt, also over a digest of the password | cost 4 to 16 |
//! | scrypt, also Firebase's | memory (128·N·r, and 128·r·p) ≤ 256 MiB, 128·N·r·p ≤ 1 GiB |
//! | PBKDF2 with SHA-1, SHA-256 or SHA-512 | ≤ 10,000,000 iterations, ≤ 20,000,000 over all blocks of the output |
//! | SHA-crypt | 1,000 to 1,000,000 rounds |
//! | phpass | 2^7 to 2^20 rounds |
//! | all | ≤ 512 bytes of ASCII, output 16 to 64 bytes, salt ≥ 8 bytes unless the format has shorter ones |
//!
//! `docs/import.md` has the text forms with an example of each, which a test reads. Unknown parameters are refused. Text
//! outside ASCII is refused before it reaches the `bcrypt` crate, which panicked on it before 0.19.2 (RUSTSEC-2026-0199).

mod bcrypt;
mod encoding;
mod legacy;
mod pbkdf2;
mod phc;
mod scrypt;

use std::fmt;

use aws_lc_rs::digest;

use super::hash::{Cost, Peppers, ScratchMemory};
use crate::model::{Error, Result};
use crate::secret::{SecretText, same};
use bcrypt::Bcrypt;
use legacy::{Phpass, SaltedSha, ShaCrypt};
use pbkdf2::Pbkdf2;
use scrypt::Scrypt;

const MAX_TEXT: usize = 512;
const TAG: std::ops::RangeInclusive<usize> = 16..=64;
const MIN_SALT: usize = 8;

const UNKNOWN: UnusableHash = UnusableHash(
    "is not a supported hash: argon2, bcrypt, scrypt, PBKDF2, phpass, SHA-crypt, salted SHA, ASP.NET Identity or Firebase",
);

/// Checks that a hash made by another system can be verified here at an affordable cost.
///
/// # Errors
/// `INVALID_REQUEST` at `field`.
pub fn check_imported(hash: &SecretText, field: &'static str) -> Result<()> {
    match StoredHash::parse(hash.expose()) {
        Ok(StoredHash::Argon2 { cost, .. }) if cost.pepper.is_some() => Err(Error::invalid(
            field,
            "names a pepper (keyid), which this service does not have",
        )),
        Ok(_) => Ok(()),
        Err(UnusableHash(why)) => Err(Error::invalid(field, why)),
    }
}

/// Why a stored hash is unusable. The text does not quote the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnusableHash(pub(super) &'static str);

/// A stored hash whose cost is affordable.
pub(super) enum StoredHash {
    Argon2 { cost: Cost, salt: Vec<u8>, tag: Vec<u8> },
    Bcrypt(Bcrypt),
    Scrypt(Scrypt),
    Pbkdf2(Pbkdf2),
    Phpass(Phpass),
    ShaCrypt(ShaCrypt),
    SaltedSha(SaltedSha),
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl StoredHash {
    /// Parses a stored hash; refuses one that is malformed or costs too much.
    pub(super) fn parse(text: &str) -> Result<Self, UnusableHash> {
        if text.len() > MAX_TEXT || !text.is_ascii() {
            return Err(UnusableHash("a hash is at most 512 bytes of ASCII"));
        }
        if let Some(text) = text.strip_prefix('$') {
            return Self::parse_crypt(text);
        }
        if let Some(text) = text.strip_prefix('{') {
            return Self::parse_ldap(text);
        }
        let Some((name, fields)) = text.split_once('$') else {
            return Pbkdf2::parse_identity(text).map(Self::Pbkdf2);
        };
        match name.split_once(':') {
            Some(("pbkdf2", parameters)) => Pbkdf2::parse_werkzeug(parameters, fields).map(Self::Pbkdf2),
            Some(("scrypt", parameters)) => Scrypt::parse_werkzeug(parameters, fields).map(Self::Scrypt),
            Some(_) => Err(UNKNOWN),
            None => Self::parse_django(name, fields),
        }
    }

    /// Parses `$NAME$…`, the form of `crypt(3)` and of PHC strings, without the first `$`.
    fn parse_crypt(text: &str) -> Result<Self, UnusableHash> {
        let (name, fields) = text.split_once('$').unwrap_or((text, ""));
        match name {
            "2a" | "2b" | "2x" | "2y" => Bcrypt::parse(text).map(Self::Bcrypt),
            "bcrypt-sha256" => Bcrypt::parse_passlib(fields).map(Self::Bcrypt),
            "wp" => Bcrypt::parse_wordpress(fields).map(Self::Bcrypt),
            "argon2id" | "argon2i" | "argon2d" => phc::parse_argon2(text),
            "scrypt" => Scrypt::parse_phc(text).map(Self::Scrypt),
            "fbscrypt" => Scrypt::parse_firebase(fields).map(Self::Scrypt),
            "pbkdf2" | "pbkdf2-sha1" => Pbkdf2::parse_crypt(text, fields, Digest::Sha1).map(Self::Pbkdf2),
            "pbkdf2-sha256" => Pbkdf2::parse_crypt(text, fields, Digest::Sha256).map(Self::Pbkdf2),
            "pbkdf2-sha512" => Pbkdf2::parse_crypt(text, fields, Digest::Sha512).map(Self::Pbkdf2),
            "P" | "H" => Phpass::parse(fields).map(Self::Phpass),
            "5" => ShaCrypt::parse(text, fields, Digest::Sha256).map(Self::ShaCrypt),
            "6" => ShaCrypt::parse(text, fields, Digest::Sha512).map(Self::ShaCrypt),
            _ => Err(UNKNOWN),
        }
    }

    /// Parses `{SCHEME}…` of RFC 2307 (OpenLDAP) and of Spring Security, without the first brace.
    fn parse_ldap(text: &str) -> Result<Self, UnusableHash> {
        let (scheme, rest) = text.split_once('}').ok_or(UNKNOWN)?;
        match (scheme.to_ascii_uppercase().as_str(), rest.strip_prefix('$')) {
            ("SSHA", _) => SaltedSha::parse(Digest::Sha1, rest).map(Self::SaltedSha),
            ("SSHA256", _) => SaltedSha::parse(Digest::Sha256, rest).map(Self::SaltedSha),
            ("SSHA512", _) => SaltedSha::parse(Digest::Sha512, rest).map(Self::SaltedSha),
            ("CRYPT" | "BCRYPT", Some(rest)) => Self::parse_crypt(rest),
            _ => Err(UNKNOWN),
        }
    }

    /// Parses Django's `NAME$…`.
    fn parse_django(name: &str, fields: &str) -> Result<Self, UnusableHash> {
        match (name, fields.strip_prefix('$')) {
            ("pbkdf2_sha256", _) => Pbkdf2::parse_django(fields, Digest::Sha256).map(Self::Pbkdf2),
            ("pbkdf2_sha1", _) => Pbkdf2::parse_django(fields, Digest::Sha1).map(Self::Pbkdf2),
            ("scrypt", _) => Scrypt::parse_django(fields).map(Self::Scrypt),
            ("argon2", _) => phc::parse_argon2(fields),
            ("bcrypt", Some(fields)) => Bcrypt::parse(fields).map(Self::Bcrypt),
            ("bcrypt_sha256", Some(fields)) => Bcrypt::parse_django_sha256(fields).map(Self::Bcrypt),
            _ => Err(UNKNOWN),
        }
    }

    /// Whether this is the hash of `password`.
    pub(super) fn matches(&self, password: &[u8], peppers: &Peppers, memory: &mut ScratchMemory) -> Result<bool> {
        match self {
            Self::Argon2 { cost, salt, tag } => {
                let mut computed = vec![0; tag.len()];
                cost.compute(password, salt, peppers, memory, &mut computed)?;
                Ok(same(&computed, tag))
            }
            Self::Bcrypt(hash) => hash.matches(password),
            Self::Scrypt(hash) => hash.matches(password),
            Self::Pbkdf2(hash) => Ok(hash.matches(password)),
            Self::Phpass(hash) => Ok(hash.matches(password)),
            Self::ShaCrypt(hash) => Ok(hash.matches(password)),
            Self::SaltedSha(hash) => Ok(hash.matches(password)),
        }
    }
}

/// The digest under PBKDF2, SHA-crypt or a salted SHA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}
