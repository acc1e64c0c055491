//! Checks of passwords against stored hashes. They compute on the calling thread, so only the pool uses them.

use aws_lc_rs::pbkdf2;

use super::hash::{HashParameters, Peppers, SALT_LEN, ScratchMemory, TAG_LEN, normalised};
use super::stored::{Digest, StoredHash, UnusableHash};
use crate::model::{Error, Result, UserId};
use crate::secret::{SecretText, same};

/// The result of a check of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCheck {
    /// Whether the password matches the stored hash.
    pub matches: bool,
    /// Whether the password matches and should be hashed again, because the stored hash is imported or has other
    /// parameters than the current configuration.
    pub rehash_needed: bool,
    /// Why the stored hash is unusable (malformed or too costly), if it is. Such a hash matches no password.
    pub unusable_hash: Option<&'static str>,
}

impl PasswordCheck {
    /// Logs an error with the user if the stored hash is unusable. Only a new password helps that user.
    pub fn log_unusable_hash(&self, user: &UserId, request_id: &str) {
        if let Some(why) = self.unusable_hash {
            tracing::error!(request_id, %user, why, "a stored password hash is refused: set a new password for the user");
        }
    }
}

impl HashParameters {
    /// Checks a password against a stored hash. Without a stored hash, it computes a hash of the current cost all the same, so
    /// that the time does not reveal whether the user exists. For an argon2 hash that costs less than the current parameters,
    /// it does the missing work as well, until the next login replaces the hash.
    pub(super) fn verify(
        &self,
        stored: Option<&SecretText>,
        password: &SecretText,
        memory: &mut ScratchMemory,
    ) -> Result<PasswordCheck> {
        let stored = stored
            .filter(|stored| !stored.is_empty())
            .map(|stored| StoredHash::parse(stored.expose()));
        match stored {
            Some(Ok(stored)) => self.verify_stored(&stored, password, memory),
            Some(Err(UnusableHash(why))) => self.verify_dummy(Some(why), password, memory),
            None => self.verify_dummy(None, password, memory),
        }
    }

    fn verify_stored(
        &self,
        stored: &StoredHash,
        password: &SecretText,
        memory: &mut ScratchMemory,
    ) -> Result<PasswordCheck> {
        let raw = password.expose().as_bytes();
        let (matches, current) = if let StoredHash::Argon2 { cost, salt, tag } = stored {
            let normal = normalised(password);
            let ours = stored.matches(normal.as_bytes(), self.peppers(), memory)?;
            // An imported argon2 hash looks like ours, but was made of the bytes as the user sent them.
            let theirs = normal.as_bytes() != raw && stored.matches(raw, self.peppers(), memory)?;
            if let Some(missing) = self.cost().beyond(cost) {
                for password in [normal.as_bytes(), raw]
                    .iter()
                    .take(1 + usize::from(normal.as_bytes() != raw))
                {
                    missing.compute(password, &[0; SALT_LEN], self.peppers(), memory, &mut [0; TAG_LEN])?;
                }
            }
            let current = ours && *cost == self.cost() && salt.len() == SALT_LEN && tag.len() == TAG_LEN;
            (ours | theirs, current)
        } else {
            (stored.matches(raw, self.peppers(), memory)?, false)
        };
        Ok(PasswordCheck {
            matches,
            rehash_needed: matches && !current,
            unusable_hash: None,
        })
    }

    /// Computes a hash of the current cost and matches no password.
    fn verify_dummy(
        &self,
        unusable_hash: Option<&'static str>,
        password: &SecretText,
        memory: &mut ScratchMemory,
    ) -> Result<PasswordCheck> {
        let dummy = StoredHash::Argon2 {
            cost: self.cost(),
            salt: vec![0; SALT_LEN],
            tag: vec![0; TAG_LEN],
        };
        self.verify_stored(&dummy, password, memory)?;
        Ok(PasswordCheck {
            matches: false,
            rehash_needed: false,
            unusable_hash,
        })
    }
}

impl StoredHash {
    /// Whether this is the hash of `password`.
    pub(super) fn matches(&self, password: &[u8], peppers: &Peppers, memory: &mut ScratchMemory) -> Result<bool> {
        match self {
            Self::Argon2 { cost, salt, tag } => {
                let mut computed = vec![0; tag.len()];
                cost.compute(password, salt, peppers, memory, &mut computed)?;
                Ok(same(&computed, tag))
            }
            Self::Bcrypt(text) => bcrypt::verify(password, text).map_err(Error::internal),
            Self::Scrypt { params, salt, tag } => {
                let mut computed = vec![0; tag.len()];
                scrypt::scrypt(password, salt, params, &mut computed).map_err(Error::internal)?;
                Ok(same(&computed, tag))
            }
            Self::Pbkdf2 {
                digest,
                iterations,
                salt,
                tag,
            } => {
                let algorithm = match digest {
                    Digest::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
                    Digest::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
                };
                Ok(pbkdf2::verify(algorithm, *iterations, salt, password, tag).is_ok())
            }
        }
    }
}
