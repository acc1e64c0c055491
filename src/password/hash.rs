//! Hashing of passwords: argon2id (RFC 9106) over the NFC form, with the configured cost and an optional pepper.

use std::collections::BTreeMap;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

use crate::config;
use crate::model::{Error, Result};
use crate::secret::{Entropy, SecretBytes, SecretText, random};

/// The length of the salt of new hashes, in bytes (RFC 9106 §3.1).
pub(super) const SALT_LEN: usize = 16;

/// The length of the tag of new hashes, in bytes.
pub(super) const TAG_LEN: usize = 32;

/// Peppers: secret inputs of the hash function, by the id in the stored hash.
#[derive(Clone, Debug, Default)]
pub struct Peppers {
    keys: BTreeMap<u32, SecretBytes<32>>,
    in_use: Option<u32>,
}

impl Peppers {
    /// Makes a set of peppers. New hashes use the one with the largest id if `in_use`; the others only verify older hashes.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (u32, SecretBytes<32>)>, in_use: bool) -> Self {
        let keys: BTreeMap<_, _> = keys.into_iter().collect();
        let in_use = keys.keys().next_back().copied().filter(|_| in_use);
        Self { keys, in_use }
    }
}

/// The parameters of new hashes: their cost, and the peppers.
#[derive(Clone, Debug)]
pub struct HashParameters {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
    peppers: Peppers,
}

impl HashParameters {
    /// The parameters with the configured cost.
    #[must_use]
    pub fn new(config: &config::Password, peppers: Peppers) -> Self {
        Self {
            memory_kib: config.memory_kib,
            iterations: config.iterations,
            parallelism: config.parallelism,
            peppers,
        }
    }

    /// The same cost with these peppers.
    #[must_use]
    pub fn with_peppers(&self, peppers: Peppers) -> Self {
        Self {
            peppers,
            ..self.clone()
        }
    }

    /// The cost of a new hash, with the id of its pepper.
    pub(super) fn cost(&self) -> Cost {
        Cost {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            memory_kib: self.memory_kib,
            iterations: self.iterations,
            parallelism: self.parallelism,
            pepper: self.peppers.in_use,
        }
    }

    /// Hashes a password; returns a PHC string whose `keyid` names the pepper.
    pub(super) fn hash(
        &self,
        password: &SecretText,
        entropy: &dyn Entropy,
        memory: &mut ScratchMemory,
    ) -> Result<SecretText> {
        let (cost, salt) = (self.cost(), random::<SALT_LEN>(entropy));
        let mut tag = Zeroizing::new([0; TAG_LEN]);
        cost.compute(
            normalised(password).as_bytes(),
            &salt,
            &self.peppers,
            memory,
            tag.as_mut(),
        )?;
        let keyid = cost.pepper.map_or_else(String::new, |id| {
            format!(",keyid={}", STANDARD_NO_PAD.encode(id.to_be_bytes()))
        });
        Ok(SecretText::new(format!(
            "$argon2id$v=19$m={},t={},p={}{keyid}${}${}",
            cost.memory_kib,
            cost.iterations,
            cost.parallelism,
            STANDARD_NO_PAD.encode(salt),
            STANDARD_NO_PAD.encode(tag.as_ref()),
        )))
    }

    pub(super) fn peppers(&self) -> &Peppers {
        &self.peppers
    }
}

/// The parameters of one argon2 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) memory_kib: u32,
    pub(super) iterations: u32,
    pub(super) parallelism: u32,
    pub(super) pepper: Option<u32>,
}

impl Cost {
    /// A hash with the work that this cost takes beyond `other`; `None` if `other` takes at least as much. Work is memory
    /// times passes: the time of a hash is proportional to it, and lanes are computed one after the other.
    pub(super) fn beyond(&self, other: &Self) -> Option<Self> {
        let work = |cost: &Self| u64::from(cost.memory_kib) * u64::from(cost.iterations);
        let missing = work(self).saturating_sub(work(other));
        let iterations = missing.div_ceil(u64::from(self.memory_kib));
        // At most the memory of this cost, because there are at least `missing / memory_kib` passes.
        let memory_kib = u32::try_from(missing.checked_div(iterations)?).ok()?;
        let iterations = u32::try_from(iterations).ok()?;
        (memory_kib >= Params::MIN_M_COST).then_some(Self {
            memory_kib,
            iterations,
            parallelism: 1,
            pepper: None,
            ..*self
        })
    }

    /// Computes the hash into `tag`. The caller must have checked that the cost is affordable.
    pub(super) fn compute(
        &self,
        password: &[u8],
        salt: &[u8],
        peppers: &Peppers,
        memory: &mut ScratchMemory,
        tag: &mut [u8],
    ) -> Result<()> {
        let params = Params::new(self.memory_kib, self.iterations, self.parallelism, Some(tag.len()));
        let params = params.map_err(Error::internal)?;
        let blocks = memory.blocks(self.memory_kib)?;
        let argon2 = match self.pepper {
            None => Argon2::new(self.algorithm, self.version, params),
            Some(id) => {
                let unknown = || {
                    Error::internal(format!(
                        "a stored password hash needs pepper {id}, which is not available"
                    ))
                };
                let key = peppers.keys.get(&id).ok_or_else(unknown)?;
                Argon2::new_with_secret(key.expose(), self.algorithm, self.version, params).map_err(Error::internal)?
            }
        };
        argon2
            .hash_password_into_with_memory(password, salt, tag, blocks)
            .map_err(Error::internal)
    }
}

/// The working memory of one hashing thread. It is kept between hashes, so the process needs threads × memory in total,
/// however its allocator treats freed memory.
#[derive(Debug, Default)]
pub(super) struct ScratchMemory(Vec<Block>);

impl ScratchMemory {
    fn blocks(&mut self, kib: u32) -> Result<&mut [Block]> {
        let count = usize::try_from(kib).map_err(Error::internal)?;
        if let Some(missing) = count.checked_sub(self.0.len()) {
            self.0.try_reserve_exact(missing).map_err(Error::internal)?;
            self.0.resize(count, Block::new());
        }
        Ok(&mut self.0[..count])
    }

    #[cfg(test)]
    pub(super) fn blocks_held(&self) -> usize {
        self.0.len()
    }

    /// Frees the memory that an imported hash needed beyond our own cost.
    pub(super) fn trim(&mut self, parameters: &HashParameters) {
        let usual = usize::try_from(parameters.memory_kib).unwrap_or(usize::MAX);
        if self.0.len() > usual {
            self.0.truncate(usual);
            self.0.shrink_to_fit();
        }
    }
}

/// The NFC form of a password, which is hashed: the same password from two keyboards may differ in its code points
/// (NIST SP 800-63B-4 §3.1.1.2).
pub(super) fn normalised(password: &SecretText) -> Zeroizing<String> {
    let text = password.expose();
    Zeroizing::new(if is_nfc(text) {
        text.to_owned()
    } else {
        text.nfc().collect()
    })
}
