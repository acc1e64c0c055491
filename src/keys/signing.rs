//! Keys that sign access tokens.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::low_s;
use super::public::PublicKey;
use crate::model::{Algorithm, Claims, Error, KeyId, Result};
use crate::secret::{Entropy, SecretBytes};

/// Length of a dot and the base64url of an RSA signature of 4096 bits, with some spare.
const MAX_SIGNATURE: usize = 4 + 684;

enum Pair {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(Box<RsaKeyPair>),
}

/// A key pair, parsed and checked once. Only [`SigningKey::to_pkcs8`] exports the private key, for sealing.
pub struct SigningKey {
    public: PublicKey,
    pair: Pair,
}

impl SigningKey {
    /// Generates a key.
    ///
    /// EdDSA and ES256 keys come from `entropy`; the primes of an RSA key (2048 bits) come from AWS-LC's own generator. An
    /// RSA key can take seconds of computing: call this on a blocking thread.
    pub fn generate(algorithm: Algorithm, entropy: &dyn Entropy) -> Result<Self> {
        match algorithm {
            Algorithm::EdDsa => Self::from_ed25519_seed(SecretBytes::<32>::generate(entropy).expose()),
            Algorithm::Es256 => {
                // A scalar is out of range with a probability of 2⁻³²; then draw again, as in FIPS 186-5 §A.2.2.
                let draw = || SecretBytes::<32>::generate(entropy);
                let pair = std::iter::repeat_with(draw)
                    .take(8)
                    .find_map(|scalar| pair_of_scalar(scalar.expose()));
                Self::new(Pair::Es256(
                    pair.ok_or_else(|| Error::internal("no usable P-256 scalar"))?,
                ))
            }
            Algorithm::Rs256 => {
                let pair =
                    RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| Error::internal("RSA generation failed"))?;
                Self::new(Pair::Rs256(Box::new(pair)))
            }
        }
    }

    /// Reads and checks a private key that [`SigningKey::to_pkcs8`] wrote (PKCS #8, RFC 5958).
    ///
    /// # Errors
    /// `INVALID_REQUEST` at `key` with the reason, for instance for an RSA key of a wrong size.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self> {
        let rejected = |_| Error::invalid("key", format!("is not a private key for {}", algorithm.as_str()));
        Self::new(match algorithm {
            Algorithm::EdDsa => Pair::EdDsa(Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?),
            Algorithm::Es256 => {
                Pair::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(rejected)?)
            }
            Algorithm::Rs256 => Pair::Rs256(Box::new(RsaKeyPair::from_pkcs8(der).map_err(rejected)?)),
        })
    }

    pub(super) fn from_ed25519_seed(seed: &[u8; 32]) -> Result<Self> {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Error::invalid("key", "is not an Ed25519 seed"))?;
        Self::new(Pair::EdDsa(pair))
    }

    pub(super) fn from_p256(pair: EcdsaKeyPair) -> Result<Self> {
        Self::new(Pair::Es256(pair))
    }

    pub(super) fn from_rsa(pair: RsaKeyPair) -> Result<Self> {
        Self::new(Pair::Rs256(Box::new(pair)))
    }

    fn new(pair: Pair) -> Result<Self> {
        let public = match &pair {
            Pair::EdDsa(pair) => PublicKey::ed25519(pair.public_key().as_ref())?,
            Pair::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let coordinates = point.strip_prefix(&[4]).and_then(|rest| rest.split_at_checked(32));
                let (x, y) = coordinates.ok_or_else(|| Error::internal("a P-256 point that is not uncompressed"))?;
                PublicKey::p256(x, y)?
            }
            Pair::Rs256(pair) => {
                let RsaPublicKeyComponents::<Vec<u8>> { n, e } = pair.public_key().into();
                PublicKey::rsa(&n, &e)?
            }
        };
        Ok(Self { public, pair })
    }

    /// The RFC 7638 thumbprint of the public key, which is its `kid`.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        self.public.id()
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The algorithm of its signatures.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// Signs an access token (RFC 9068) with these claims; returns its compact form.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        self.sign_payload(&serde_json::to_vec(claims).map_err(Error::internal)?)
    }

    /// Signs a payload with the header of access tokens; returns the compact form.
    pub(super) fn sign_payload(&self, payload: &[u8]) -> Result<String> {
        let header = self.public.token_header();
        let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + MAX_SIGNATURE);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The length of the longest JSON payload whose token has at most `limit` bytes.
    #[must_use]
    pub fn payload_within(&self, limit: usize) -> usize {
        let signature = match &self.pair {
            Pair::EdDsa(_) | Pair::Es256(_) => 64,
            Pair::Rs256(pair) => pair.public_modulus_len(),
        };
        let rest = self.public.token_header().len() + 2 + (signature * 4).div_ceil(3);
        limit.saturating_sub(rest) * 3 / 4
    }

    /// Signs `message`; returns the signature in the form of JWS (RFC 7518 §3).
    pub(super) fn signature(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| Error::internal("signing failed");
        Ok(match &self.pair {
            Pair::EdDsa(pair) => pair.try_sign(message).map_err(failed)?.as_ref().to_vec(),
            Pair::Es256(pair) => {
                let mut signature = pair
                    .sign(&SystemRandom::new(), message)
                    .map_err(failed)?
                    .as_ref()
                    .to_vec();
                low_s::lower(&mut signature);
                signature
            }
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(failed)?;
                signature
            }
        })
    }

    /// The private key (PKCS #8 v1, RFC 5958), for sealing.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>> {
        let failed = |_| Error::internal("the private key cannot be encoded");
        Ok(Zeroizing::new(match &self.pair {
            Pair::EdDsa(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Es256(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
        }))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.algorithm().as_str(), self.id())
    }
}

/// The P-256 key pair of a private scalar; `None` if it is out of range. AWS-LC computes the point because the RFC 5915
/// structure omits it.
pub(super) fn pair_of_scalar(scalar: &[u8; 32]) -> Option<EcdsaKeyPair> {
    /// `ECPrivateKey` { version 1, privateKey OCTET STRING (32), [0] prime256v1 }.
    const BEFORE: [u8; 7] = [0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    const AFTER: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let der = Zeroizing::new([&BEFORE[..], scalar, &AFTER].concat());
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixtures::claims;
    use crate::secret::SystemEntropy;

    /// `jsonwebtoken`, an independent implementation, reads our tokens and key sets.
    #[test]
    fn jsonwebtoken_accepts_what_is_signed() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
            let claims: Claims = serde_json::from_value(claims()).unwrap();
            let token = key.sign(&claims).unwrap();
            let header = jsonwebtoken::decode_header(&token).unwrap();
            assert_eq!(header.typ.as_deref(), Some("at+jwt"));
            assert_eq!(header.kid.as_deref(), Some(key.id().as_str()));
            let mut rules = jsonwebtoken::Validation::new(header.alg);
            rules.set_audience(&["api"]);
            rules.set_issuer(&["https://issuer.test"]);
            rules.validate_exp = false; // it reads the system's clock
            let jwk: jsonwebtoken::jwk::Jwk = crate::keys::published::jwk(key.public()).unwrap();
            let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
            let read = jsonwebtoken::decode::<Claims>(&token, &public, &rules).unwrap();
            assert_eq!(read.claims, claims);
        }
    }

    #[test]
    fn a_private_half_is_written_and_read_back() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
            let der = key.to_pkcs8().unwrap();
            assert_eq!(SigningKey::from_pkcs8(algorithm, &der).unwrap().id(), key.id());
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(SigningKey::from_pkcs8(other, &der).is_err());
            }
        }
    }

    #[test]
    fn entropy_alone_decides_an_elliptic_key() {
        #[derive(Debug)]
        struct Fixed(u8);
        impl Entropy for Fixed {
            fn fill(&self, out: &mut [u8]) {
                out.fill(self.0);
            }
        }
        for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
            let make = |byte| SigningKey::generate(algorithm, &Fixed(byte)).map(|key| key.id().clone());
            assert_eq!(make(7).unwrap(), make(7).unwrap());
            assert_ne!(make(7).unwrap(), make(8).unwrap());
        }
        // Entropy that yields only invalid scalars (zero, or beyond the order) is an error, not an endless loop.
        assert!(SigningKey::generate(Algorithm::Es256, &Fixed(0)).is_err());
        assert!(SigningKey::generate(Algorithm::Es256, &Fixed(0xff)).is_err());
    }

    #[test]
    fn the_largest_payload_is_computed_to_the_byte() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
            let mut claims: Claims = serde_json::from_value(claims()).unwrap();
            for _ in 0..5 {
                claims.iss.push('x');
                let token = key.sign(&claims).unwrap().len();
                let payload = serde_json::to_vec(&claims).unwrap().len();
                assert!(key.payload_within(token) >= payload);
                assert!(key.payload_within(token - 1) < payload);
            }
        }
    }

    #[test]
    fn debug_shows_no_private_half() {
        let key = SigningKey::generate(Algorithm::EdDsa, &SystemEntropy).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey(EdDSA {})", key.id()));
    }
}
