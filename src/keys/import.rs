//! Import of existing private keys, from PEM or JWK.

use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

use super::jwk::{Members, number};
use super::signing::{SigningKey, pair_of_scalar};
use crate::model::{Algorithm, Error, Result};

/// The largest accepted file, in bytes.
const MAX_FILE: usize = 64 * 1024;

impl SigningKey {
    /// Reads a private key: a JWK with its private members (RFC 7517), or PEM with one private key (PKCS #8, `RSA PRIVATE
    /// KEY` of PKCS #1, or `EC PRIVATE KEY` of SEC 1). The type of the key decides the algorithm.
    ///
    /// # Errors
    /// `INVALID_REQUEST` at `key` for all that [`PublicKey`](super::public::PublicKey) refuses, and for a private key that
    /// does not match its public one. The message says what is wrong with the file and never quotes it.
    pub fn import(file: &[u8]) -> Result<Self> {
        if file.len() > MAX_FILE {
            return Err(Error::invalid("key", "the file is too large to be a key"));
        }
        match file.trim_ascii_start().first() {
            Some(b'{') => from_jwk(file),
            _ => from_pem(file),
        }
    }
}

fn from_pem(file: &[u8]) -> Result<SigningKey> {
    let mut found = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(file) {
        let (kind, der) = section.map_err(|_| Error::invalid("key", "the PEM is malformed"))?;
        let der = Zeroizing::new(der);
        let key = match kind {
            SectionKind::PrivateKey => from_pkcs8(&der)?,
            SectionKind::RsaPrivateKey => {
                let pair = RsaKeyPair::from_der(&der);
                SigningKey::from_rsa(pair.map_err(|_| Error::invalid("key", NOT_AN_RSA_KEY))?)?
            }
            SectionKind::EcPrivateKey => {
                let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
                SigningKey::from_p256(pair.map_err(|_| Error::invalid("key", "is not a P-256 private key"))?)?
            }
            SectionKind::PublicKey | SectionKind::Certificate => {
                return Err(Error::invalid("key", "this is a public key; import the private key"));
            }
            // OpenSSL writes sections such as `EC PARAMETERS` before the key.
            SectionKind::Crl | SectionKind::Csr | SectionKind::EchConfigList | _ => continue,
        };
        if found.replace(key).is_some() {
            return Err(Error::invalid("key", "the file holds more than one private key"));
        }
    }
    found.ok_or_else(|| Error::invalid("key", why_no_key(file)))
}

const NOT_AN_RSA_KEY: &str = "is not an RSA private key of 2048 to 4096 bits";

fn why_no_key(file: &[u8]) -> &'static str {
    let holds = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    if holds("BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED") {
        "the private key is encrypted; decrypt it first (openssl pkey)"
    } else if holds("BEGIN RSA PUBLIC KEY") {
        "this is a public key; import the private key"
    } else {
        "is neither PEM with a private key nor a JSON Web Key"
    }
}

/// The object identifiers of RFC 8410 §3, RFC 5480 §2.1.1 and RFC 8017 §A.1, encoded in DER.
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

fn from_pkcs8(der: &[u8]) -> Result<SigningKey> {
    // A PrivateKeyInfo begins with SEQUENCE, version, AlgorithmIdentifier, so its first bytes hold the identifier. The
    // identifier only selects the parser; the parser checks the whole structure.
    let start = &der[..der.len().min(32)];
    let names = |oid: &[u8]| start.windows(oid.len()).any(|window| window == oid);
    if names(ED25519) {
        SigningKey::from_pkcs8(Algorithm::EdDsa, der)
    } else if names(EC_PUBLIC_KEY) {
        SigningKey::from_pkcs8(Algorithm::Es256, der).map_err(|_| Error::invalid("key", "is not a P-256 private key"))
    } else if names(RSA_ENCRYPTION) {
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| Error::invalid("key", NOT_AN_RSA_KEY))?;
        SigningKey::from_rsa(pair)
    } else {
        Err(Error::invalid("key", "the key is none of Ed25519, P-256 and RSA"))
    }
}

fn from_jwk(file: &[u8]) -> Result<SigningKey> {
    let members = Members::parse(file)?;
    let public = members.public("sign")?;
    let missing = || Error::invalid("key", "this is a public key; import the private key, with `d`");
    let d = number("d", Some(members.d.as_ref().ok_or_else(missing)?))?;
    let mismatch = || Error::invalid("key", "the private key does not match the public key");
    let key = match public.algorithm() {
        Algorithm::EdDsa => SigningKey::from_ed25519_seed(d.as_slice().try_into().map_err(|_| mismatch())?)?,
        Algorithm::Es256 => {
            let scalar = d.as_slice().try_into().ok();
            SigningKey::from_p256(scalar.and_then(pair_of_scalar).ok_or_else(mismatch)?)?
        }
        Algorithm::Rs256 => rsa_of_jwk(&members, d)?,
    };
    if *key.public() == public {
        Ok(key)
    } else {
        Err(mismatch())
    }
}

fn rsa_of_jwk(members: &Members<'_>, d: Zeroizing<Vec<u8>>) -> Result<SigningKey> {
    if members.oth {
        return Err(Error::invalid(
            "key",
            "RSA keys of more than two primes are not supported",
        ));
    }
    let private = |name, member: &Option<Zeroizing<String>>| number(name, member.as_ref().map(|text| text.as_str()));
    let components = KeyPairComponents {
        public_key: PublicKeyComponents {
            n: number("n", members.n.as_deref())?,
            e: number("e", members.e.as_deref())?,
        },
        d,
        p: private("p", &members.p)?,
        q: private("q", &members.q)?,
        dP: private("dp", &members.dp)?,
        dQ: private("dq", &members.dq)?,
        qInv: private("qi", &members.qi)?,
    };
    let pair = RsaKeyPair::from_components(&components);
    SigningKey::from_rsa(pair.map_err(|_| Error::invalid("key", "the members do not form an RSA private key"))?)
}

#[cfg(test)]
mod tests;
