//! scrypt (RFC 7914) in PHC strings, in the forms of Django and Werkzeug, and Firebase's variant.

use aws_lc_rs::cipher::{AES_256, AES_256_KEY_LEN, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use super::encoding::{base64, base64_of_either_alphabet, hex, number};
use super::phc::Phc;
use super::{MIN_SALT, TAG, UnusableHash};
use crate::model::{Error, Result};
use crate::secret::same;

const MAX_MEMORY: u64 = 256 << 20;
const MAX_WORK: u64 = 1 << 30;

const MALFORMED: UnusableHash = UnusableHash("scrypt: malformed");
const OUT_OF_BOUNDS: UnusableHash = UnusableHash("scrypt: N, r or p is out of bounds");

/// An scrypt hash.
pub(in crate::password) struct Scrypt {
    params: scrypt::Params,
    salt: Vec<u8>,
    tag: Vec<u8>,
    /// The signer key of a Firebase project. It is encrypted with the output of scrypt, and `tag` is the result.
    signer_key: Option<Zeroizing<Vec<u8>>>,
}

impl Scrypt {
    fn new(log_n: u32, r: u32, p: u32, salt: Vec<u8>, tag: Vec<u8>) -> Result<Self, UnusableHash> {
        if salt.len() < MIN_SALT || !TAG.contains(&tag.len()) {
            return Err(UnusableHash("scrypt: the salt or the hash has a bad length"));
        }
        let params = params(log_n, r, p).ok_or(OUT_OF_BOUNDS)?;
        Ok(Self {
            params,
            salt,
            tag,
            signer_key: None,
        })
    }

    /// Parses a PHC string without its first `$`.
    pub(super) fn parse_phc(text: &str) -> Result<Self, UnusableHash> {
        let phc = Phc::parse(text, &["ln", "r", "p"])?;
        let (log_n, r, p) = (phc.number("ln")?, phc.number("r")?, phc.number("p")?);
        Self::new(log_n, r, p, phc.salt, phc.tag)
    }

    /// Parses Django's `scrypt$N$SALT$R$P$HASH` from N on. The salt is text.
    pub(super) fn parse_django(fields: &str) -> Result<Self, UnusableHash> {
        let fields: Vec<&str> = fields.split('$').collect();
        let [n, salt, r, p, tag] = fields[..] else {
            return Err(MALFORMED);
        };
        let tag = base64(tag).ok_or(MALFORMED)?;
        Self::of_numbers([n, r, p], salt, tag)
    }

    /// Parses Werkzeug's `scrypt:N:R:P$SALT$HASH`. The salt is text, the hash hexadecimal.
    pub(super) fn parse_werkzeug(parameters: &str, fields: &str) -> Result<Self, UnusableHash> {
        let parameters: Vec<&str> = parameters.split(':').collect();
        let ([n, r, p], Some((salt, tag))) = (&parameters[..], fields.split_once('$')) else {
            return Err(MALFORMED);
        };
        Self::of_numbers([n, r, p], salt, hex(tag).ok_or(MALFORMED)?)
    }

    fn of_numbers(numbers: [&str; 3], salt: &str, tag: Vec<u8>) -> Result<Self, UnusableHash> {
        let [Some(n), Some(r), Some(p)] = numbers.map(number) else {
            return Err(MALFORMED);
        };
        if !n.is_power_of_two() {
            return Err(OUT_OF_BOUNDS);
        }
        Self::new(n.trailing_zeros(), r, p, salt.as_bytes().to_vec(), tag)
    }

    /// Parses `$fbscrypt$v=1,n=MEM_COST,r=ROUNDS,p=1,ss=SALT_SEPARATOR,sk=SIGNER_KEY$SALT$HASH` after the name. The hash depends
    /// on the parameters of the Firebase project, so the text carries them.
    pub(super) fn parse_firebase(fields: &str) -> Result<Self, UnusableHash> {
        const MALFORMED: UnusableHash = UnusableHash("fbscrypt: malformed");
        let fields: Vec<&str> = fields.split('$').collect();
        let [parameters, salt, tag] = fields[..] else {
            return Err(MALFORMED);
        };
        let parameters: Vec<(&str, &str)> = parameters
            .split(',')
            .map(|parameter| parameter.split_once('='))
            .collect::<Option<_>>()
            .ok_or(MALFORMED)?;
        let [("v", "1"), ("n", n), ("r", r), ("p", p), ("ss", separator), ("sk", key)] = parameters[..] else {
            return Err(UnusableHash(
                "fbscrypt: the parameters are not v=1,n=…,r=…,p=…,ss=…,sk=…",
            ));
        };
        let [Some(n), Some(r), Some(p)] = [n, r, p].map(number) else {
            return Err(MALFORMED);
        };
        let bytes = |text| base64_of_either_alphabet(text).ok_or(MALFORMED);
        let (key, tag) = (Zeroizing::new(bytes(key)?), bytes(tag)?);
        if key.len() != tag.len() {
            return Err(UnusableHash("fbscrypt: the signer key and the hash differ in length"));
        }
        let salt = [bytes(salt)?, bytes(separator)?].concat();
        Ok(Self {
            signer_key: Some(key),
            ..Self::new(n, r, p, salt, tag)?
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> Result<bool> {
        let Some(signer_key) = &self.signer_key else {
            let computed = self.compute(password, self.tag.len())?;
            return Ok(same(&computed, &self.tag));
        };
        let key = self.compute(password, AES_256_KEY_LEN)?;
        let key = UnboundCipherKey::new(&AES_256, &key).and_then(EncryptingKey::ctr);
        let mut computed = signer_key.to_vec();
        let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
        key.and_then(|key| key.less_safe_encrypt(&mut computed, zero))
            .map_err(Error::internal)?;
        Ok(same(&computed, &self.tag))
    }

    fn compute(&self, password: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>> {
        let mut computed = Zeroizing::new(vec![0; length]);
        scrypt::scrypt(password, &self.salt, &self.params, &mut computed).map_err(Error::internal)?;
        Ok(computed)
    }
}

/// The parameters; `None` if they cost too much.
fn params(log_n: u32, r: u32, p: u32) -> Option<scrypt::Params> {
    if !(1..=31).contains(&log_n) || r == 0 || p == 0 {
        return None;
    }
    let memory = (128_u64 << log_n).checked_mul(u64::from(r))?;
    let work = memory.checked_mul(u64::from(p))?;
    let blocks = (u64::from(r) * 128).checked_mul(u64::from(p))?;
    if memory > MAX_MEMORY || blocks > MAX_MEMORY || work > MAX_WORK {
        return None;
    }
    scrypt::Params::new(u8::try_from(log_n).ok()?, r, p).ok()
}
