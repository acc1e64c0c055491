//! `docs/faults.md` names the tests of each fault: they must exist, and no module of this folder may be missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of this folder without tests.
const HELPERS: &[&str] = &["main", "recording_client"];

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The test names of the page: paths in backticks that begin with a test crate.
fn named() -> Vec<String> {
    let page = fs::read_to_string(tests_folder().join("../docs/faults.md")).unwrap();
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| text.contains("::") && !text.contains([' ', '/']))
        .map(str::to_owned)
        .collect()
}

/// Whether there is a module or a test function of this name: `faults::redis_down`, `faults::redis_down::a_test`.
fn exists(name: &str) -> bool {
    let parts: Vec<&str> = name.split("::").collect();
    let source = |parts: &[&str]| fs::read_to_string(tests_folder().join(parts.join("/")).with_extension("rs"));
    if source(&parts).is_ok() {
        return true;
    }
    let Some((function, module)) = parts.split_last() else {
        return false;
    };
    source(module).is_ok_and(|code| {
        let (before, found) = code.split_once(&format!("fn {function}(")).unwrap_or_default();
        let mut attributes = before.lines().rev().take_while(|line| !line.is_empty());
        !found.is_empty() && attributes.any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn every_test_that_the_page_names_exists() {
    let names = named();
    assert!(names.len() > 70, "only {} names were found", names.len());
    let missing: Vec<&String> = names.iter().filter(|name| !exists(name)).collect();
    assert!(
        missing.is_empty(),
        "docs/faults.md names tests that do not exist: {missing:#?}"
    );
}

#[test]
fn every_module_of_the_folder_is_named() {
    let names = named();
    let modules: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix("faults::")?.split("::").next())
        .collect();
    for entry in fs::read_dir(tests_folder().join("faults")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            HELPERS.contains(&module) || modules.contains(module),
            "docs/faults.md does not name faults::{module}"
        );
    }
}

#[test]
fn the_check_finds_missing_tests() {
    assert!(exists("faults::redis_down") && exists("faults::documentation::the_check_finds_missing_tests"));
    for name in [
        "faults::no_such_module",
        "faults::documentation::no_such_test",
        "faults::documentation::exists",
    ] {
        assert!(!exists(name), "{name}");
    }
}
