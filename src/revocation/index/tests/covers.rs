//! What an index covers, it revokes.

use super::*;

proptest! {
    /// Lost revocations are those that a loaded index does not cover: what it covers, it revokes.
    #[test]
    fn a_covered_revocation_is_in_force(
        rows in proptest::collection::vec(revocations(), 0..8),
        asked in revocations(),
        subject in revocation_subject(),
    ) {
        let index = Index::new();
        for row in &rows {
            index.insert(row);
        }
        prop_assert!(rows.iter().all(|row| index.covers(row)));
        if index.covers(&asked) && subject.is_revoked_by(&asked) {
            prop_assert!(index.is_revoked(&subject));
        }
    }
}
