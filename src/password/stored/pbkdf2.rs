//! PBKDF2 in PHC strings, and in the forms of passlib, Django, Werkzeug and ASP.NET Identity.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;

use super::encoding::{base64, base64_of_passlib, hex, number};
use super::phc::Phc;
use super::{Digest, MIN_SALT, TAG, UNKNOWN, UnusableHash};

const MAX_ITERATIONS: u32 = 10_000_000;
/// Every block of the output costs all iterations.
const MAX_WORK: u64 = 20_000_000;

const MALFORMED: UnusableHash = UnusableHash("PBKDF2: malformed");

/// A PBKDF2 hash (RFC 8018 §5.2).
pub(in crate::password) struct Pbkdf2 {
    digest: Digest,
    iterations: NonZeroU32,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

impl Pbkdf2 {
    fn new(digest: Digest, iterations: u32, salt: Vec<u8>, tag: Vec<u8>) -> Result<Self, UnusableHash> {
        if salt.len() < MIN_SALT || !TAG.contains(&tag.len()) {
            return Err(UnusableHash("PBKDF2: the salt or the hash has a bad length"));
        }
        let blocks = tag.len().div_ceil(digest.algorithm().output_len()) as u64;
        let affordable = iterations <= MAX_ITERATIONS && u64::from(iterations) * blocks <= MAX_WORK;
        let iterations = NonZeroU32::new(iterations)
            .filter(|_| affordable)
            .ok_or(UnusableHash("PBKDF2: the iterations are out of bounds"))?;
        Ok(Self {
            digest,
            iterations,
            salt,
            tag,
        })
    }

    /// Parses a PHC string (`$pbkdf2-sha256$i=…`), or passlib's form, whose first field is the number of iterations. `text` lacks
    /// the first `$`; `fields` is the part after the name.
    pub(super) fn parse_crypt(text: &str, fields: &str, digest: Digest) -> Result<Self, UnusableHash> {
        if let Some((iterations, rest)) = fields.split_once('$')
            && let Some(iterations) = number(iterations)
        {
            let (salt, tag) = rest.split_once('$').ok_or(MALFORMED)?;
            let bytes = |text| base64_of_passlib(text).ok_or(MALFORMED);
            return Self::new(digest, iterations, bytes(salt)?, bytes(tag)?);
        }
        let phc = Phc::parse(text, &["i", "l"])?;
        let length = phc.value("l").is_none_or(|l| l.as_str() == phc.tag.len().to_string());
        if !length {
            return Err(UnusableHash("PBKDF2: l is not the length of the hash"));
        }
        Self::new(digest, phc.number("i")?, phc.salt, phc.tag)
    }

    /// Parses Django's `pbkdf2_sha256$ITERATIONS$SALT$HASH` from the iterations on. The salt is text.
    pub(super) fn parse_django(fields: &str, digest: Digest) -> Result<Self, UnusableHash> {
        let fields: Vec<&str> = fields.split('$').collect();
        let [iterations, salt, tag] = fields[..] else {
            return Err(MALFORMED);
        };
        let tag = base64(tag)
            .filter(|tag| tag.len() == digest.algorithm().output_len())
            .ok_or(MALFORMED)?;
        let iterations = number(iterations).ok_or(MALFORMED)?;
        Self::new(digest, iterations, salt.as_bytes().to_vec(), tag)
    }

    /// Parses Werkzeug's `pbkdf2:DIGEST:ITERATIONS$SALT$HASH`. The salt is text, the hash hexadecimal.
    pub(super) fn parse_werkzeug(parameters: &str, fields: &str) -> Result<Self, UnusableHash> {
        let (digest, iterations) = parameters.split_once(':').ok_or(MALFORMED)?;
        let digest = match digest {
            "sha1" => Digest::Sha1,
            "sha256" => Digest::Sha256,
            "sha512" => Digest::Sha512,
            _ => return Err(UNKNOWN),
        };
        let (salt, tag) = fields.split_once('$').ok_or(MALFORMED)?;
        let (iterations, tag) = (number(iterations).ok_or(MALFORMED)?, hex(tag).ok_or(MALFORMED)?);
        Self::new(digest, iterations, salt.as_bytes().to_vec(), tag)
    }

    /// Parses the base64 of ASP.NET Identity. Version 2 is a zero, a salt of 16 bytes and an output of 32 bytes, of 1,000
    /// iterations with SHA-1. Version 3 is a one, then the digest, the iterations and the length of the salt (each 4 bytes,
    /// big-endian), the salt and the output.
    pub(super) fn parse_identity(text: &str) -> Result<Self, UnusableHash> {
        let bytes = base64(text).ok_or(UNKNOWN)?;
        match &bytes[..] {
            [0, rest @ ..] if rest.len() == 16 + 32 => {
                Self::new(Digest::Sha1, 1_000, rest[..16].to_vec(), rest[16..].to_vec())
            }
            [1, rest @ ..] => {
                let ([digest, iterations, length], rest) = numbers(rest).ok_or(UNKNOWN)?;
                let digest = match digest {
                    0 => Digest::Sha1,
                    1 => Digest::Sha256,
                    2 => Digest::Sha512,
                    _ => return Err(UNKNOWN),
                };
                let length = usize::try_from(length).map_err(|_| MALFORMED)?;
                let (salt, tag) = rest.split_at_checked(length).ok_or(MALFORMED)?;
                Self::new(digest, iterations, salt.to_vec(), tag.to_vec())
            }
            _ => Err(UNKNOWN),
        }
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let algorithm = match self.digest {
            Digest::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Digest::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Digest::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        pbkdf2::verify(algorithm, self.iterations, &self.salt, password, &self.tag).is_ok()
    }
}

/// The first three big-endian numbers, and the rest.
fn numbers(bytes: &[u8]) -> Option<([u32; 3], &[u8])> {
    let (numbers, rest) = bytes.split_first_chunk::<12>()?;
    let (numbers, _) = numbers.as_chunks::<4>();
    let numbers = <[[u8; 4]; 3]>::try_from(numbers).ok()?.map(u32::from_be_bytes);
    Some((numbers, rest))
}
