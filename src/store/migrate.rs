//! Migrations: numbered SQL, compiled in, applied in one transaction under the backend's lock.

use crate::model::{Error, ErrorKind, Result};

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counts from 1, without gaps.
    pub version: u32,
    /// The statements.
    pub sql: &'static str,
}

/// The steps that a store at version `at` (0: empty) still lacks.
///
/// A store that is newer than this program is refused: it may hold what this program would ignore.
pub fn pending(all: &'static [Migration], at: u32) -> Result<&'static [Migration]> {
    let newest = all.last().map_or(0, |step| step.version);
    if at > newest {
        return Err(Error::new(
            ErrorKind::Internal,
            "the store was made by a newer version of this program; run that version",
        )
        .because(format!("schema {at}, and this program knows up to {newest}")));
    }
    Ok(all.split_at_checked(at as usize).map_or(&[], |(_, rest)| rest))
}

/// How a store's schema stands to this program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The newest.
    Current(u32),
    /// `migrate` brings it up to date; 0 is an empty store.
    Older {
        /// Its version.
        at: u32,
        /// What this program knows.
        newest: u32,
    },
    /// Refused by everything.
    Newer {
        /// Its version.
        at: u32,
        /// What this program knows.
        newest: u32,
    },
}

impl SchemaState {
    /// How a store at version `at` stands.
    #[must_use]
    pub fn of(all: &[Migration], at: u32) -> Self {
        let newest = all.last().map_or(0, |step| step.version);
        match at.cmp(&newest) {
            std::cmp::Ordering::Equal => Self::Current(at),
            std::cmp::Ordering::Less => Self::Older { at, newest },
            std::cmp::Ordering::Greater => Self::Newer { at, newest },
        }
    }
}

/// Whether the versions count from 1 without gaps, as [`pending`] relies on.
#[must_use]
pub fn is_numbered(all: &[Migration]) -> bool {
    (1..).zip(all).all(|(version, step)| step.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Migration] = &[Migration { version: 1, sql: "a" }, Migration { version: 2, sql: "b" }];

    #[test]
    fn only_what_is_missing_is_applied() {
        let versions = |at| pending(STEPS, at).map(|steps| steps.iter().map(|s| s.version).collect::<Vec<_>>());
        assert_eq!(versions(0).unwrap(), [1, 2]);
        assert_eq!(versions(1).unwrap(), [2]);
        assert!(versions(2).unwrap().is_empty());
    }

    #[test]
    fn a_newer_store_is_refused_without_naming_versions_to_callers() {
        let error = pending(STEPS, 3).unwrap_err();
        assert!(error.message.contains("newer"), "{error}");
        assert!(!error.message.contains('3'), "{error}");
    }

    #[test]
    fn steps_are_numbered_from_one() {
        assert!(is_numbered(STEPS));
        assert!(!is_numbered(&STEPS[1..]));
    }
}
