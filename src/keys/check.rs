//! Check values: a known text, sealed under each master key that was ever used. They reveal a wrong master key at the
//! start of a replica rather than when it first needs a key.

use super::seal::{MasterKeyring, SealedItem};
use crate::model::{Error, ErrorKind, Result};
use crate::secret::Entropy;
use crate::store::keys::{CheckRow, KeyRows};

const CHECK_TEXT: &[u8] = b"countersign master key check";

impl MasterKeyring {
    /// Makes a check value for each key of the keyring.
    pub fn check_rows(&self, entropy: &dyn Entropy) -> Result<Vec<CheckRow>> {
        self.names()
            .map(|name| {
                Ok(CheckRow {
                    name: name.to_owned(),
                    sealed: self.seal_check(name, CHECK_TEXT, entropy)?,
                })
            })
            .collect()
    }

    /// Checks that this keyring belongs to the store that `rows` come from. Call it before the first write.
    ///
    /// A store without keys accepts every keyring.
    ///
    /// # Errors
    /// `INVALID_REQUEST` at `keys.master_key` if a check value with the name of one of our keys does not open, or if the
    /// store holds keys and no check value has such a name.
    pub fn check_belongs_to(&self, rows: &KeyRows) -> Result<()> {
        let mut is_ours = false;
        for row in &rows.checks {
            if !self.names().any(|name| name == row.name) {
                continue;
            }
            let unsealed = self.unseal(SealedItem::CheckValue(&row.name), &row.sealed);
            if unsealed.is_ok_and(|text| *text == CHECK_TEXT) {
                is_ours = true;
            } else {
                return Err(wrong(
                    "the check value of this master key does not open: the row in the store was changed; restore it from a backup",
                ));
            }
        }
        // If the check values were deleted from the store, a key that opens is proof enough.
        if is_ours || (rows.checks.is_empty() && (is_empty(rows) || self.unseals_any(rows))) {
            Ok(())
        } else {
            Err(wrong(
                "is not the master key that sealed the keys in this store; configure that key",
            ))
        }
    }

    /// Whether at least one private key or secret of `rows` opens, or there is none to open.
    #[must_use]
    pub fn unseals_any(&self, rows: &KeyRows) -> bool {
        let signing = rows
            .signing
            .iter()
            .map(|row| (SealedItem::SigningKey(&row.id, row.algorithm), &row.sealed));
        let secrets = rows
            .secrets
            .iter()
            .map(|row| (SealedItem::Secret(row.purpose, row.id), &row.sealed));
        is_empty(rows)
            || signing
                .chain(secrets)
                .any(|(item, sealed)| self.unseal(item, sealed).is_ok())
    }
}

fn is_empty(rows: &KeyRows) -> bool {
    rows.signing.is_empty() && rows.secrets.is_empty()
}

fn wrong(message: &'static str) -> Error {
    Error::at(ErrorKind::InvalidRequest, "keys.master_key", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixtures::{master, now, row};
    use crate::model::{Algorithm, KeyState};
    use crate::secret::{SecretText, SystemEntropy};

    fn rows(master: &MasterKeyring) -> KeyRows {
        KeyRows {
            signing: vec![row(Algorithm::EdDsa, KeyState::Active, now(), now(), master)],
            checks: master.check_rows(&SystemEntropy).unwrap(),
            ..KeyRows::default()
        }
    }

    #[test]
    fn a_fresh_store_takes_every_keyring_and_then_no_other() {
        let (ours, other) = (master(), master());
        assert!(ours.check_belongs_to(&KeyRows::default()).is_ok());
        assert!(ours.check_belongs_to(&rows(&ours)).is_ok());
        assert!(other.check_belongs_to(&rows(&ours)).is_err());
        let error = other.check_belongs_to(&rows(&ours)).unwrap_err();
        assert!(error.message.contains("keys.master_key"), "{error}");
    }

    #[test]
    fn one_known_key_in_the_ring_is_enough() {
        let (old, new) = (
            MasterKeyring::generate(&SystemEntropy),
            MasterKeyring::generate(&SystemEntropy),
        );
        let old_alone = MasterKeyring::parse(&old).unwrap();
        let both = MasterKeyring::parse(&SecretText::new(format!("{},{}", new.expose(), old.expose()))).unwrap();
        assert!(both.check_belongs_to(&rows(&old_alone)).is_ok());
        assert!(
            MasterKeyring::parse(&new)
                .unwrap()
                .check_belongs_to(&rows(&old_alone))
                .is_err()
        );
    }

    #[test]
    fn a_check_value_of_our_name_that_does_not_open_ends_the_start() {
        let ours = master();
        let mut tampered = rows(&ours);
        tampered.checks[0].sealed[20] ^= 1;
        assert!(ours.check_belongs_to(&tampered).is_err());
        let mut swapped = rows(&ours);
        swapped.checks[0].sealed = swapped.signing[0].sealed.clone();
        assert!(ours.check_belongs_to(&swapped).is_err());
    }

    #[test]
    fn without_check_values_a_key_that_opens_decides() {
        let (ours, other) = (master(), master());
        let mut unchecked = rows(&ours);
        unchecked.checks.clear();
        assert!(ours.check_belongs_to(&unchecked).is_ok());
        assert!(other.check_belongs_to(&unchecked).is_err());
    }

    #[test]
    fn another_keyrings_check_values_are_not_ours() {
        let (ours, other) = (master(), master());
        let mut swapped = rows(&ours);
        swapped.checks = other.check_rows(&SystemEntropy).unwrap();
        assert!(ours.check_belongs_to(&swapped).is_err());
    }

    #[test]
    fn a_check_value_tells_nothing_of_the_key() {
        let key = MasterKeyring::generate(&SystemEntropy);
        let check = &MasterKeyring::parse(&key).unwrap().check_rows(&SystemEntropy).unwrap()[0];
        assert!(check.name.len() == 16 && !key.expose().contains(&check.name));
    }
}
