//! Checks that the tests named in `docs/jwt-rules.md` exist.

use std::fs;
use std::path::Path;

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_table_of_rules_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/jwt-rules.md")).unwrap();
    let mut code = String::new();
    sources(&root.join("src/keys"), &mut code);
    sources(&root.join("src/validator"), &mut code);
    let mut named = 0;
    for name in table
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| !name.contains(['/', ' ']))
    {
        let Some((_, last)) = name.rsplit_once("::") else {
            continue;
        };
        let is_there = code.contains(&format!("fn {last}(")) || code.contains(&format!("mod {last}"));
        assert!(is_there, "{name}");
        named += 1;
    }
    assert!(named > 40, "{named}");
}
