//! Whether a password is the stored one. Computes on the thread that calls: for the pool alone.

use aws_lc_rs::pbkdf2;

use super::hash::{HashParameters, Peppers, SALT_LEN, ScratchMemory, TAG_LEN, normalised};
use super::stored::{Digest, StoredHash, UnusableHash};
use crate::model::{Error, Result, UserId};
use crate::secret::{SecretText, same};

/// What verifying a password found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCheck {
    /// Whether it is the stored one.
    pub matches: bool,
    /// Whether it should be hashed anew: the stored hash is imported, or not what the configuration asks for now.
    /// False unless it matches.
    pub rehash_needed: bool,
    /// Why the stored hash was not even looked at: it is malformed or too costly, and matches nothing.
    pub unusable_hash: Option<&'static str>,
}

impl PasswordCheck {
    /// Tells the log whose stored hash is unfit, if it is: only a new password helps that user.
    pub fn log_unusable_hash(&self, user: &UserId, request_id: &str) {
        if let Some(why) = self.unusable_hash {
            tracing::error!(request_id, %user, why, "a stored password hash is refused: set the user's password anew");
        }
    }
}

impl HashParameters {
    /// Whether the password is the stored one. With nothing stored a hash of the current cost is computed all the same,
    /// so that the time does not tell whether there is such a user.
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
            Some(Err(UnusableHash(why))) => self.verify_nothing(Some(why), password, memory),
            None => self.verify_nothing(None, password, memory),
        }
    }

    fn verify_stored(&self, stored: &StoredHash, password: &SecretText, memory: &mut ScratchMemory) -> Result<PasswordCheck> {
        let raw = password.expose().as_bytes();
        let (matches, current) = if let StoredHash::Argon2 { cost, salt, tag } = stored {
            let normal = normalised(password);
            let ours = stored.matches(normal.as_bytes(), self.peppers(), memory)?;
            // An imported argon2 hash looks like ours but was made of the bytes as they came.
            let theirs = normal.as_bytes() != raw && stored.matches(raw, self.peppers(), memory)?;
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

    /// Takes as long as a hash of the current cost.
    fn verify_nothing(
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
    /// Whether it is the hash of these bytes.
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
