//! Migrations: numbered SQL that is compiled in and applied in one transaction under a lock of the database.

use crate::model::{Error, ErrorKind, Result};

/// One step of the schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counts from 1, without gaps in a generation; see [`GENERATION`].
    pub version: u32,
    /// The statements.
    pub sql: &'static str,
}

/// The number of versions in a generation. Within a generation the schema only gains, for instance tables, and columns
/// with a default. An older version of the program can go on with such a schema, so a roll-out can run two versions
/// side by side and can be undone. A step that removes something begins the next generation (101, 201…), which programs
/// that do not know it refuse.
pub const GENERATION: u32 = 100;

/// The steps that a store at version `at` (0 for an empty one) lacks; none if it is ahead of this program.
///
/// A store of a later generation is refused, because this program could damage it.
pub fn pending(all: &'static [Migration], at: u32) -> Result<&'static [Migration]> {
    if let SchemaState::Newer { at, newest } = SchemaState::of(all, at) {
        return Err(Error::new(
            ErrorKind::Internal,
            "the store was made by a newer version of this program; run that version",
        )
        .because(format!("schema {at}, and this program knows up to {newest}")));
    }
    let done = all.partition_point(|step| step.version <= at);
    Ok(all.get(done..).unwrap_or_default())
}

/// The state of a store's schema, compared with the newest version that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The newest version.
    Current(u32),
    /// An older version, which `migrate` brings up to date.
    Older {
        /// The store's version; 0 if it is empty.
        at: u32,
        /// The newest version that this program knows.
        newest: u32,
    },
    /// A newer version of the same generation, which this program can serve.
    Ahead {
        /// The store's version.
        at: u32,
        /// The newest version that this program knows.
        newest: u32,
    },
    /// A version of a later generation, which every command refuses.
    Newer {
        /// The store's version.
        at: u32,
        /// The newest version that this program knows.
        newest: u32,
    },
}

impl SchemaState {
    /// The state of a store at version `at`.
    #[must_use]
    pub fn of(all: &[Migration], at: u32) -> Self {
        let newest = all.last().map_or(0, |step| step.version);
        match at.cmp(&newest) {
            std::cmp::Ordering::Equal => Self::Current(at),
            std::cmp::Ordering::Less => Self::Older { at, newest },
            std::cmp::Ordering::Greater if at / GENERATION == newest / GENERATION => Self::Ahead { at, newest },
            std::cmp::Ordering::Greater => Self::Newer { at, newest },
        }
    }
}

/// Whether the versions count from 1 without gaps, except before the first version of a [`GENERATION`].
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

    const LATER: &[Migration] = &[Migration { version: 1, sql: "a" }, Migration { version: 101, sql: "b" }];

    #[test]
    fn only_what_is_missing_is_applied_from_any_version_of_the_generation_before() {
        for (all, at, missing) in [
            (STEPS, 0, &[1, 2][..]),
            (STEPS, 1, &[2]),
            (STEPS, 2, &[]),
            (LATER, 0, &[1, 101]),
            (LATER, 1, &[101]),
            (LATER, 101, &[]),
        ] {
            let versions: Vec<u32> = pending(all, at).unwrap().iter().map(|step| step.version).collect();
            assert_eq!(versions, missing, "{at}");
        }
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
}
