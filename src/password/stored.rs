//! A strict parser of stored hashes, ours and imported ones, which refuses hashes that cost too much to compute.
//!
//! A hash contains its own cost parameters. Without bounds, a client that may import hashes, or an attacker with write access
//! to the database, could stop the service with one login: argon2 with `m=4294967295` takes 4 TiB. The bounds:
//!
//! | hash | accepted |
//! | --- | --- |
//! | argon2id, argon2i | memory ≤ 256 MiB, memory × iterations ≤ 4 GiB, iterations ≤ 1,024, lanes ≤ 16 |
//! | bcrypt `$2a$ $2b$ $2y$` | cost 4 to 16 |
//! | scrypt | memory (128·N·r) ≤ 256 MiB, memory × p ≤ 1 GiB |
//! | PBKDF2 with SHA-256 or SHA-512 | ≤ 10,000,000 iterations |
//! | all | ≤ 512 bytes of ASCII, output 16 to 64 bytes (bcrypt: 23), salt ≥ 8 bytes |
//!
//! argon2d (it leaks through memory access patterns), `$2x$` (hashes of a broken bcrypt) and unknown parameters are
//! refused. Text outside ASCII is refused before it reaches the `bcrypt` crate, which panicked on it before 0.19.2
//! (RUSTSEC-2026-0199).

use std::num::NonZeroU32;

use argon2::password_hash::phc::{PasswordHash, Value};
use argon2::{Algorithm, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::hash::Cost;
use crate::config::{MAX_ITERATIONS, MAX_MEMORY_KIB, MAX_PARALLELISM, MAX_WORK_KIB};
use crate::model::{Error, Result};
use crate::secret::SecretText;

const MAX_TEXT: usize = 512;
const TAG: std::ops::RangeInclusive<usize> = 16..=64;
const MIN_SALT: usize = 8;
const MAX_BCRYPT_COST: u32 = 16;
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
const MAX_SCRYPT_WORK: u64 = 1 << 30;
const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;

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
#[derive(Debug, PartialEq)]
pub(super) enum StoredHash {
    Argon2 {
        cost: Cost,
        salt: Vec<u8>,
        tag: Vec<u8>,
    },
    Bcrypt(String),
    Scrypt {
        params: scrypt::Params,
        salt: Vec<u8>,
        tag: Vec<u8>,
    },
    Pbkdf2 {
        digest: Digest,
        iterations: NonZeroU32,
        salt: Vec<u8>,
        tag: Vec<u8>,
    },
}

/// The digest under PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256,
    Sha512,
}

impl StoredHash {
    /// Parses a stored hash; refuses one that is malformed or costs too much.
    pub(super) fn parse(text: &str) -> Result<Self, UnusableHash> {
        if text.len() > MAX_TEXT || !text.is_ascii() {
            return Err(UnusableHash("a hash is at most 512 bytes of ASCII"));
        }
        let name = text
            .strip_prefix('$')
            .unwrap_or(text)
            .split('$')
            .next()
            .unwrap_or_default();
        match name {
            "2a" | "2b" | "2y" => parse_bcrypt(text),
            "argon2id" => parse_argon2(text, Algorithm::Argon2id),
            "argon2i" => parse_argon2(text, Algorithm::Argon2i),
            "argon2d" => Err(UnusableHash("argon2d leaks through memory access and is not accepted")),
            "scrypt" => parse_scrypt(text),
            "pbkdf2-sha256" => parse_pbkdf2(text, Digest::Sha256),
            "pbkdf2-sha512" => parse_pbkdf2(text, Digest::Sha512),
            "pbkdf2_sha256" => parse_django(text),
            _ => Err(UnusableHash(
                "is not a supported hash: argon2id, argon2i, bcrypt, scrypt or PBKDF2",
            )),
        }
    }
}

fn parse_argon2(text: &str, algorithm: Algorithm) -> Result<StoredHash, UnusableHash> {
    let phc = Phc::parse(text, &["m", "t", "p", "keyid"])?;
    let version = match phc.version {
        None | Some(0x10) => Version::V0x10,
        Some(0x13) => Version::V0x13,
        Some(_) => return Err(UnusableHash("argon2: unknown version")),
    };
    let pepper = match phc.value("keyid") {
        None => None,
        Some(id) => {
            let id = STANDARD_NO_PAD
                .decode(id.as_str())
                .ok()
                .and_then(|id| id.try_into().ok());
            Some(u32::from_be_bytes(
                id.ok_or(UnusableHash("argon2: keyid has an unknown format"))?,
            ))
        }
    };
    let (memory_kib, iterations, parallelism) = (phc.number("m")?, phc.number("t")?, phc.number("p")?);
    let affordable = (1..=MAX_PARALLELISM).contains(&parallelism)
        && (8 * parallelism..=MAX_MEMORY_KIB).contains(&memory_kib)
        && (1..=MAX_ITERATIONS).contains(&iterations)
        && u64::from(memory_kib) * u64::from(iterations) <= MAX_WORK_KIB;
    if !affordable {
        return Err(UnusableHash("argon2: m, t or p is out of bounds"));
    }
    let cost = Cost {
        algorithm,
        version,
        memory_kib,
        iterations,
        parallelism,
        pepper,
    };
    let (salt, tag) = (phc.salt, phc.tag);
    Ok(StoredHash::Argon2 { cost, salt, tag })
}

fn parse_bcrypt(text: &str) -> Result<StoredHash, UnusableHash> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| UnusableHash("bcrypt: malformed"))?;
    if !(4..=MAX_BCRYPT_COST).contains(&parts.get_cost()) {
        return Err(UnusableHash("bcrypt: the cost is out of bounds"));
    }
    Ok(StoredHash::Bcrypt(text.to_owned()))
}

fn parse_scrypt(text: &str) -> Result<StoredHash, UnusableHash> {
    let out_of_bounds = UnusableHash("scrypt: ln, r or p is out of bounds");
    let phc = Phc::parse(text, &["ln", "r", "p"])?;
    let (log_n, r, p) = (phc.number("ln")?, phc.number("r")?, phc.number("p")?);
    if !(1..=31).contains(&log_n) || r == 0 || p == 0 {
        return Err(out_of_bounds);
    }
    let memory = (128_u64 << log_n).checked_mul(u64::from(r)).ok_or(out_of_bounds)?;
    let work = memory.checked_mul(u64::from(p)).ok_or(out_of_bounds)?;
    if memory > MAX_SCRYPT_MEMORY || work > MAX_SCRYPT_WORK {
        return Err(out_of_bounds);
    }
    let log_n = u8::try_from(log_n).map_err(|_| out_of_bounds)?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| out_of_bounds)?;
    let (salt, tag) = (phc.salt, phc.tag);
    Ok(StoredHash::Scrypt { params, salt, tag })
}

fn parse_pbkdf2(text: &str, digest: Digest) -> Result<StoredHash, UnusableHash> {
    let phc = Phc::parse(text, &["i", "l"])?;
    let length = phc.value("l").is_none_or(|l| l.as_str() == phc.tag.len().to_string());
    if !length {
        return Err(UnusableHash("PBKDF2: l is not the length of the hash"));
    }
    let iterations = pbkdf2_iterations(phc.number("i")?)?;
    let (salt, tag) = (phc.salt, phc.tag);
    Ok(StoredHash::Pbkdf2 {
        digest,
        iterations,
        salt,
        tag,
    })
}

/// Parses Django's `pbkdf2_sha256$ITERATIONS$SALT$HASH`, where the salt is text and the hash is padded base64.
fn parse_django(text: &str) -> Result<StoredHash, UnusableHash> {
    let malformed = UnusableHash("pbkdf2_sha256: malformed");
    let mut parts = text.split('$').skip(1);
    let (Some(iterations), Some(salt), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    let iterations = pbkdf2_iterations(iterations.parse().map_err(|_| malformed)?)?;
    let tag = STANDARD.decode(tag).map_err(|_| malformed)?;
    if tag.len() != 32 || salt.len() < MIN_SALT {
        return Err(malformed);
    }
    Ok(StoredHash::Pbkdf2 {
        digest: Digest::Sha256,
        iterations,
        salt: salt.as_bytes().to_vec(),
        tag,
    })
}

fn pbkdf2_iterations(iterations: u32) -> Result<NonZeroU32, UnusableHash> {
    NonZeroU32::new(iterations)
        .filter(|iterations| iterations.get() <= MAX_PBKDF2_ITERATIONS)
        .ok_or(UnusableHash("PBKDF2: the iterations are out of bounds"))
}

/// A string in the PHC format (of the Password Hashing Competition) with a salt, a hash and only known parameters.
struct Phc {
    hash: PasswordHash,
    version: Option<u32>,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

impl Phc {
    fn parse(text: &str, known: &[&str]) -> Result<Self, UnusableHash> {
        let hash = PasswordHash::new(text).map_err(|_| UnusableHash("malformed"))?;
        let names: Vec<_> = hash.params.iter().map(|(name, _)| name).collect();
        let once = |name: &str| names.iter().filter(|other| other.as_str() == name).count() == 1;
        if !names
            .iter()
            .all(|name| known.contains(&name.as_str()) && once(name.as_str()))
        {
            return Err(UnusableHash("a parameter is unknown or repeated"));
        }
        let salt = hash
            .salt
            .as_ref()
            .map(|salt| salt.as_ref().to_vec())
            .unwrap_or_default();
        let tag = hash
            .hash
            .as_ref()
            .map(|tag| tag.as_bytes().to_vec())
            .unwrap_or_default();
        if salt.len() < MIN_SALT || !TAG.contains(&tag.len()) {
            return Err(UnusableHash("the salt or the hash has a bad length"));
        }
        let version = hash.version;
        Ok(Self {
            hash,
            version,
            salt,
            tag,
        })
    }

    fn value(&self, name: &str) -> Option<Value<'_>> {
        self.hash.params.get(name)
    }

    fn number(&self, name: &str) -> Result<u32, UnusableHash> {
        self.hash
            .params
            .get_decimal(name)
            .ok_or(UnusableHash("a parameter is missing or is not a number"))
    }
}
