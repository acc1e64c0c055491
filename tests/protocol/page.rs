//! `docs/model.md` and the model say the same.

use super::faults::FAULTS;
use super::properties::words;
use super::scopes::SCOPES;
use super::state::Promise;

const PAGE: &str = include_str!("../../docs/model.md");

/// A number with commas between the thousands.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap())
        .collect();
    groups.join(",")
}

#[test]
fn the_page_has_every_scope_with_its_number_of_states() {
    assert_eq!(with_commas(1_234_567), "1,234,567");
    for scope in SCOPES {
        let row = PAGE
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", scope.name)));
        let row = row.unwrap_or_else(|| panic!("docs/model.md has no row for the scope {}", scope.name));
        let ends = format!("| {} |", with_commas(scope.states));
        assert!(row.ends_with(&ends), "docs/model.md, scope {}: {ends}", scope.name);
    }
}

#[test]
fn the_page_has_every_property_and_fault() {
    // Lines break anywhere.
    let page = PAGE.replace('\n', " ");
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
