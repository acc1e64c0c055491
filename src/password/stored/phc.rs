//! Strings in the PHC format (of the Password Hashing Competition): argon2 here, scrypt and PBKDF2 in their own files.

use argon2::password_hash::phc::{PasswordHash, Value};
use argon2::{Algorithm, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::super::hash::Cost;
use super::{MIN_SALT, StoredHash, TAG, UnusableHash};
use crate::config::{MAX_ITERATIONS, MAX_MEMORY_KIB, MAX_PARALLELISM, MAX_WORK_KIB};

/// Parses an argon2 string without its first `$`.
pub(super) fn parse_argon2(text: &str) -> Result<StoredHash, UnusableHash> {
    let algorithm = match text.split('$').next() {
        Some("argon2id") => Algorithm::Argon2id,
        Some("argon2i") => Algorithm::Argon2i,
        // Its memory accesses depend on the password, which another process on the machine could observe. The next login
        // replaces the hash.
        Some("argon2d") => Algorithm::Argon2d,
        Some(_) | None => return Err(UnusableHash("argon2: malformed")),
    };
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

/// A PHC string with a salt, a hash and only known parameters.
pub(super) struct Phc {
    hash: PasswordHash,
    version: Option<u32>,
    pub(super) salt: Vec<u8>,
    pub(super) tag: Vec<u8>,
}

impl Phc {
    /// Parses a string without its first `$`.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, UnusableHash> {
        let hash = PasswordHash::new(&format!("${text}")).map_err(|_| UnusableHash("malformed"))?;
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

    pub(super) fn value(&self, name: &str) -> Option<Value<'_>> {
        self.hash.params.get(name)
    }

    pub(super) fn number(&self, name: &str) -> Result<u32, UnusableHash> {
        self.hash
            .params
            .get_decimal(name)
            .ok_or(UnusableHash("a parameter is missing or is not a number"))
    }
}
