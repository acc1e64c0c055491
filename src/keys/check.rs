//! Check values: a known text sealed under each master key that was ever used, so that a wrong one is found out at the start
//! and not when the first key is needed.

use super::seal::{Master, Subject};
use crate::model::{Error, ErrorKind, Result};
use crate::secret::Entropy;
use crate::store::keys::{CheckRow, KeyRows};

const KNOWN: &[u8] = b"countersign master key check";

impl Master {
    /// The check values of all keys of the ring, fresh.
    pub fn check_rows(&self, entropy: &dyn Entropy) -> Result<Vec<CheckRow>> {
        self.names()
            .map(|name| {
                Ok(CheckRow {
                    name: name.to_owned(),
                    sealed: self.seal_check(name, KNOWN, entropy)?,
                })
            })
            .collect()
    }

    /// Whether this keyring belongs to this store; asked before anything is written.
    ///
    /// An error if a check value that carries one of our names does not open, or if none carries one although the store
    /// holds keys. A store without any keys takes every keyring.
    pub fn belongs_to(&self, rows: &KeyRows) -> Result<()> {
        let mut known = false;
        for row in &rows.checks {
            if !self.names().any(|name| name == row.name) {
                continue;
            }
            let opened = self.open(Subject::Check(&row.name), &row.sealed);
            if opened.is_ok_and(|text| *text == KNOWN) {
                known = true;
            } else {
                return Err(wrong(
                    "the check value of a master key does not open: the store was tampered with",
                ));
            }
        }
        // Without check values (somebody deleted them), a key that opens proves as much.
        if known || (rows.checks.is_empty() && (is_empty(rows) || self.opens_any(rows))) {
            Ok(())
        } else {
            Err(wrong("keys.master_key is not the one that this store was sealed with"))
        }
    }

    /// Whether at least one private half or secret opens, or there is none.
    #[must_use]
    pub fn opens_any(&self, rows: &KeyRows) -> bool {
        let signing = rows
            .signing
            .iter()
            .map(|row| (Subject::Signing(&row.id, row.algorithm), &row.sealed));
        let secrets = rows
            .secrets
            .iter()
            .map(|row| (Subject::Secret(row.purpose, row.id), &row.sealed));
        is_empty(rows)
            || signing
                .chain(secrets)
                .any(|(subject, sealed)| self.open(subject, sealed).is_ok())
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

    fn rows(master: &Master) -> KeyRows {
        KeyRows {
            signing: vec![row(Algorithm::EdDsa, KeyState::Active, now(), now(), master)],
            checks: master.check_rows(&SystemEntropy).unwrap(),
            ..KeyRows::default()
        }
    }

    #[test]
    fn a_fresh_store_takes_every_keyring_and_then_no_other() {
        let (ours, other) = (master(), master());
        assert!(ours.belongs_to(&KeyRows::default()).is_ok());
        assert!(ours.belongs_to(&rows(&ours)).is_ok());
        assert!(other.belongs_to(&rows(&ours)).is_err());
        let error = other.belongs_to(&rows(&ours)).unwrap_err();
        assert!(error.message.contains("keys.master_key"), "{error}");
    }

    #[test]
    fn one_known_key_in_the_ring_is_enough() {
        let (old, new) = (Master::generate(&SystemEntropy), Master::generate(&SystemEntropy));
        let old_alone = Master::parse(&old).unwrap();
        let both = Master::parse(&SecretText::new(format!("{},{}", new.expose(), old.expose()))).unwrap();
        assert!(both.belongs_to(&rows(&old_alone)).is_ok());
        assert!(Master::parse(&new).unwrap().belongs_to(&rows(&old_alone)).is_err());
    }

    #[test]
    fn a_check_value_of_our_name_that_does_not_open_ends_the_start() {
        let ours = master();
        let mut tampered = rows(&ours);
        tampered.checks[0].sealed[20] ^= 1;
        assert!(ours.belongs_to(&tampered).is_err());
        let mut swapped = rows(&ours);
        swapped.checks[0].sealed = swapped.signing[0].sealed.clone();
        assert!(ours.belongs_to(&swapped).is_err());
    }

    #[test]
    fn without_check_values_a_key_that_opens_decides() {
        let (ours, other) = (master(), master());
        let mut unchecked = rows(&ours);
        unchecked.checks.clear();
        assert!(ours.belongs_to(&unchecked).is_ok());
        assert!(other.belongs_to(&unchecked).is_err());
    }

    #[test]
    fn another_keyrings_check_values_are_not_ours() {
        let (ours, other) = (master(), master());
        let mut swapped = rows(&ours);
        swapped.checks = other.check_rows(&SystemEntropy).unwrap();
        assert!(ours.belongs_to(&swapped).is_err());
    }

    #[test]
    fn a_check_value_tells_nothing_of_the_key() {
        let key = Master::generate(&SystemEntropy);
        let check = &Master::parse(&key).unwrap().check_rows(&SystemEntropy).unwrap()[0];
        assert!(check.name.len() == 16 && !key.expose().contains(&check.name));
    }
}
