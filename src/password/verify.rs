//! Checks of passwords against stored hashes. They compute on the calling thread, so only the pool uses them.

use super::hash::{Cost, HashParameters, SALT_LEN, ScratchMemory, TAG_LEN, normalised};
use super::stored::{StoredHash, UnusableHash};
use crate::model::{Result, UserId};
use crate::secret::SecretText;

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
    /// it does the missing work as well, until the next login replaces the hash. If an imported hash of another kind does not
    /// match, which may take microseconds (`{SSHA}`), it computes a hash of the current cost, too.
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
        let (raw, normal) = (password.expose().as_bytes(), normalised(password));
        // An imported argon2 hash looks like ours, but was made of the bytes as the user sent them.
        let both = [normal.as_bytes(), raw];
        let inputs = if both[0] == raw { &both[..1] } else { &both };
        let (matches, current) = if let StoredHash::Argon2 { cost, salt, tag } = stored {
            let mut found = [false; 2];
            for (found, input) in found.iter_mut().zip(inputs) {
                *found = stored.matches(input, self.peppers(), memory)?;
            }
            let [ours, theirs] = found;
            if let Some(missing) = self.cost().beyond(cost) {
                self.spend(missing, inputs, memory)?;
            }
            let current = ours && *cost == self.cost() && salt.len() == SALT_LEN && tag.len() == TAG_LEN;
            (ours | theirs, current)
        } else {
            let matches = stored.matches(raw, self.peppers(), memory)?;
            if !matches {
                self.spend(self.cost(), inputs, memory)?;
            }
            (matches, false)
        };
        Ok(PasswordCheck {
            matches,
            rehash_needed: matches && !current,
            unusable_hash: None,
        })
    }

    /// Computes a hash of this cost for each input, for the time that it takes.
    fn spend(&self, cost: Cost, inputs: &[&[u8]], memory: &mut ScratchMemory) -> Result<()> {
        for input in inputs {
            cost.compute(input, &[0; SALT_LEN], self.peppers(), memory, &mut [0; TAG_LEN])?;
        }
        Ok(())
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
