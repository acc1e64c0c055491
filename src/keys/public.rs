//! Public keys, parsed once.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::verify::ACCESS_TOKEN_TYPE;
use super::{low_s, roca};
use crate::model::{Algorithm, Error, KeyId, Result};
use crate::secret::sha256;

/// Accepted sizes of an RSA modulus, in bits: from the minimum of NIST SP 800-131A to what verifiers still check quickly.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The public key of a signing key. Its type fixes its algorithm (RFC 8725 §3.1), so a token cannot choose another.
#[derive(Clone)]
pub struct PublicKey {
    id: KeyId,
    algorithm: Algorithm,
    canonical: Box<str>,
    header: Box<str>,
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// An Ed25519 key (RFC 8037) from the 32 bytes of its point.
    pub fn ed25519(x: &[u8]) -> Result<Self> {
        let parsed = ParsedPublicKey::new(&ED25519, x)
            .ok()
            .filter(|_| x.len() == 32)
            .ok_or_else(|| Error::invalid("key", "x is not a point of Ed25519"))?;
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(x));
        Self::new(Algorithm::EdDsa, canonical, parsed)
    }

    /// A P-256 key (RFC 7518 §6.2.1) from its coordinates, 32 bytes each.
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self> {
        let off_curve = || Error::invalid("key", "x and y are not a point of P-256");
        if x.len() != 32 || y.len() != 32 {
            return Err(off_curve());
        }
        // The uncompressed form of SEC 1 §2.3.3. AWS-LC checks that the point is on the curve (RFC 8725 §3.4).
        let point = [&[4], x, y].concat();
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| off_curve())?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Self::new(
            Algorithm::Es256,
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
            parsed,
        )
    }

    /// An RSA key (RFC 7518 §6.3.1) from its modulus and exponent, big-endian without leading zeros.
    ///
    /// # Errors
    /// `INVALID_REQUEST` at `key` for a modulus outside [`RSA_BITS`], for an exponent that is even or below 65537
    /// (FIPS 186-5 §A.1.1) or has more than 33 bits, and for a key with the fingerprint of CVE-2017-15361.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self> {
        let bits = n
            .first()
            .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if n.first() == Some(&0) || e.first() == Some(&0) {
            return Err(Error::invalid("key", "n and e must not begin with a zero byte"));
        }
        if !RSA_BITS.contains(&bits) {
            return Err(Error::invalid("key", "the RSA modulus must have 2048 to 4096 bits"));
        }
        let exponent = e.iter().try_fold(0_u64, |sum, byte| {
            sum.checked_mul(256).map(|sum| sum + u64::from(*byte))
        });
        if !exponent.is_some_and(|e| e >= 65537 && e % 2 == 1 && e < 1 << 33) {
            return Err(Error::invalid(
                "key",
                "the RSA exponent must be odd, at least 65537, and at most 33 bits long",
            ));
        }
        if roca::is_weak(n) {
            return Err(Error::invalid("key", "the RSA key can be factored (CVE-2017-15361)"));
        }
        let parsed = RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| Error::invalid("key", "n and e are not an RSA key"))?;
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        Self::new(
            Algorithm::Rs256,
            format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
            parsed,
        )
    }

    fn new(algorithm: Algorithm, canonical: String, parsed: ParsedPublicKey) -> Result<Self> {
        let id = KeyId::parse(&URL_SAFE_NO_PAD.encode(sha256(canonical.as_bytes())), "key")?;
        let header = format!(
            r#"{{"typ":"{ACCESS_TOKEN_TYPE}","alg":"{}","kid":"{id}"}}"#,
            algorithm.as_str()
        );
        Ok(Self {
            id,
            algorithm,
            header: URL_SAFE_NO_PAD.encode(header).into(),
            canonical: canonical.into(),
            parsed,
        })
    }

    /// The RFC 7638 thumbprint of the key, which is its `kid`.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// The algorithm of its signatures.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The encoded header (RFC 7515 §7.1) of each access token that the key signs.
    #[must_use]
    pub(super) fn token_header(&self) -> &str {
        &self.header
    }

    /// The JWK that RFC 7638 §3 hashes: the required members only, sorted, without white space.
    #[must_use]
    pub fn canonical_jwk(&self) -> &str {
        &self.canonical
    }

    /// Whether `signature` is a signature of `message` by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    /// Whether a valid signature has the only form that this service makes: see `low_s`. Valid Ed25519 and
    /// RSASSA-PKCS1-v1_5 signatures have one form only.
    #[must_use]
    pub(super) fn is_canonical(&self, signature: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Es256 => low_s::is_low(signature),
            Algorithm::EdDsa | Algorithm::Rs256 => true,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm.as_str(), self.id)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for PublicKey {}
