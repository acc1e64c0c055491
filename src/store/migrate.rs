//! Migrations: numbered SQL, compiled in, applied in one transaction under the backend's lock.

use crate::model::{Error, ErrorKind, Result};

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counts from 1, without gaps in a generation; see [`GENERATION`].
    pub version: u32,
    /// The statements.
    pub sql: &'static str,
}

/// So many versions are a generation. Within one a schema only gains, such as tables, and columns that have a default: what
/// knew less of it goes on with it, so that a roll-out has two versions side by side, and a way back. A step that takes
/// something away begins the next generation (101, 201…), and is refused by whatever does not know it.
pub const GENERATION: u32 = 100;

/// The steps that a store at version `at` (0: empty) still lacks; none if it is ahead of this program.
///
/// A store of a later generation is refused: what this program does with it may be wrong.
pub fn pending(all: &'static [Migration], at: u32) -> Result<&'static [Migration]> {
    let newest = newest(all);
    if at / GENERATION > newest / GENERATION {
        return Err(Error::new(
            ErrorKind::Internal,
            "the store was made by a newer version of this program; run that version",
        )
        .because(format!("schema {at}, and this program knows up to {newest}")));
    }
    let done = all.partition_point(|step| step.version <= at);
    Ok(all.get(done..).unwrap_or_default())
}

fn newest(all: &[Migration]) -> u32 {
    all.last().map_or(0, |step| step.version)
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
    /// Of a version that knows more, and only more: it is served.
    Ahead {
        /// Its version.
        at: u32,
        /// What this program knows.
        newest: u32,
    },
    /// Of a later generation: refused by everything.
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
        let newest = newest(all);
        match at.cmp(&newest) {
            std::cmp::Ordering::Equal => Self::Current(at),
            std::cmp::Ordering::Less => Self::Older { at, newest },
            std::cmp::Ordering::Greater if at / GENERATION == newest / GENERATION => Self::Ahead { at, newest },
            std::cmp::Ordering::Greater => Self::Newer { at, newest },
        }
    }
}

/// Whether the versions count from 1, without gaps but before a generation's first, as [`GENERATION`] has it.
#[must_use]
pub fn is_numbered(all: &[Migration]) -> bool {
    all.first().is_some_and(|step| step.version == 1)
        && all.windows(2).all(|pair| match pair {
            [one, next] => {
                let begins = (one.version / GENERATION + 1) * GENERATION + 1;
                next.version == one.version + 1 && next.version % GENERATION != 0 || next.version == begins
            }
            _ => true,
        })
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
        let error = pending(STEPS, 101).unwrap_err();
        assert!(error.message.contains("newer"), "{error}");
        assert!(!error.message.contains('1'), "{error}");
        assert_eq!(SchemaState::of(STEPS, 101), SchemaState::Newer { at: 101, newest: 2 });
    }

    #[test]
    fn a_store_that_only_gained_is_served() {
        assert!(pending(STEPS, 3).unwrap().is_empty());
        assert_eq!(SchemaState::of(STEPS, 3), SchemaState::Ahead { at: 3, newest: 2 });
    }

    #[test]
    fn steps_are_numbered_from_one() {
        assert!(is_numbered(STEPS));
        assert!(!is_numbered(&STEPS[1..]));
        let numbered = |versions: &[u32]| {
            let steps: Vec<Migration> = versions.iter().map(|&version| Migration { version, sql: "" }).collect();
            is_numbered(&steps)
        };
        assert!(numbered(&[1, 2, 101, 102, 201]));
        assert!(!numbered(&[1, 3]) && !numbered(&[1, 100]) && !numbered(&[1, 2, 103]));
    }

    #[test]
    fn a_generation_is_reached_from_any_place_in_the_one_before() {
        const LATER: &[Migration] = &[Migration { version: 1, sql: "a" }, Migration { version: 101, sql: "b" }];
        let versions = |at| pending(LATER, at).map(|steps| steps.iter().map(|s| s.version).collect::<Vec<_>>());
        assert_eq!(versions(0).unwrap(), [1, 101]);
        assert_eq!(versions(1).unwrap(), [101]);
        assert!(versions(101).unwrap().is_empty());
    }
}
