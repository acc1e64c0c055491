//! `docs/model.md` and the model say the same.

use super::faults::FAULTS;
use super::properties::words;
use super::scopes::{SCOPES, Scope};
use super::state::Promise;

/// The page; read when a test runs, so that a number in it needs no build.
fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/model.md")).unwrap()
}

/// The last cell in the row of the scope: its number of states.
pub fn states(scope: &Scope) -> Option<String> {
    let page = page();
    let row = page
        .lines()
        .find(|line| line.starts_with(&format!("| {} |", scope.name)))?;
    let (_, states) = row.strip_suffix(" |")?.rsplit_once("| ")?;
    Some(states.to_owned())
}

/// A number with commas between the thousands.
pub fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn the_page_has_every_scope() {
    assert_eq!(with_commas(1_234_567), "1,234,567");
    for scope in SCOPES {
        assert!(
            states(scope).is_some(),
            "docs/model.md has no row for the scope {}",
            scope.name
        );
    }
}

#[test]
fn the_page_has_every_property_and_fault() {
    // Lines break anywhere.
    let page = page().replace('\n', " ");
    let promises = Promise::ALL.into_iter().map(Promise::words);
    let shown = SCOPES
        .into_iter()
        .flat_map(|scope| scope.bounds.shows)
        .map(|event| words(*event));
    for phrase in promises.chain(shown) {
        assert!(page.contains(phrase), "docs/model.md lacks: {phrase}");
    }
    for (fault, ..) in FAULTS {
        assert!(
            page.contains(&format!("| `{fault:?}` |")),
            "docs/model.md lacks the fault {fault:?}"
        );
    }
}
