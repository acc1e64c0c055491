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
