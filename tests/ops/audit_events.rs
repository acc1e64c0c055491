//! The pages about audit events and alerts agree with the code: the list of types, the queries of the runbook, and its
//! sections.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use countersign::model::AuditType;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The page that lists the types.
fn page() -> String {
    let mut page = "# Audit events\n\n\
         Every type of event in the audit trail. `countersign audit query --type TYPE` lists the events of a type, and \
         `--type user.*` those of all\ntypes with this start; `--subject` takes the name of a user, or the id of a user, client, \
         session or key. The subject of an event about a\nuser is always the id of the user. A name that no user or client has, \
         or that was not looked up, is kept as `unknown:` and a\npseudonym, the same for the same name; a query for the name finds it.\n\n\
         This page is made from the code: `COUNTERSIGN_WRITE_AUDIT_EVENTS=1 cargo test --all-features --test ops audit_events`.\n\n\
         | type | subject | what happened |\n| --- | --- | --- |\n"
        .to_owned();
    let mut types = AuditType::ALL;
    types.sort_by_key(|kind| kind.as_str());
    for kind in types {
        let (subject, meaning) = kind.meaning();
        let _ = writeln!(page, "| `{}` | {subject} | {meaning} |", kind.as_str());
    }
    page
}

#[test]
fn the_page_lists_every_type() {
    let path = "docs/audit-events.md";
    if std::env::var_os("COUNTERSIGN_WRITE_AUDIT_EVENTS").is_some() {
        std::fs::write(file(path), page()).unwrap();
    }
    assert_eq!(
        text(path),
        page(),
        "run it with COUNTERSIGN_WRITE_AUDIT_EVENTS=1 to write the page again"
    );
    let names: BTreeSet<&str> = AuditType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), AuditType::ALL.len());
}

/// Every type is written somewhere: a list that names others would send readers to look for events that never happen.
#[test]
fn every_type_is_used() {
    fn sources(folder: &Path, found: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("audit_type.rs") {
                found.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut code = String::new();
    sources(&file("src"), &mut code);
    for kind in AuditType::ALL {
        assert!(
            code.contains(&format!("AuditType::{kind:?}")),
            "no code writes {}",
            kind.as_str()
        );
    }
}

/// The values of `--type` in a text.
fn queried(text: &str) -> Vec<String> {
    let values = text
        .match_indices("--type ")
        .map(|(at, option)| &text[at + option.len()..]);
    let word = |rest: &str| -> String {
        rest.chars()
            .take_while(|c| c.is_ascii_lowercase() || ['.', '_', '*'].contains(c))
            .collect()
    };
    values.map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_queries_of_all_pages_name_types_that_exist() {
    let names = AuditType::ALL.map(AuditType::as_str);
    let mut count = 0;
    for page in [
        "README.md",
        "SECURITY.md",
        "docs/faults.md",
        "deploy/RUNBOOK.md",
        "deploy/BACKUP.md",
        "deploy/SIZING.md",
    ] {
        for kind in queried(&text(page)) {
            let exists = match kind.strip_suffix('*') {
                Some(start) => names.iter().any(|name| name.starts_with(start)),
                None => names.contains(&kind.as_str()),
            };
            assert!(exists, "{page} asks for {kind}, which is no type of audit event");
            count += 1;
        }
    }
    assert!(count >= 5, "{count} queries were found");
    assert_eq!(queried("audit query --type user.* --since 1h"), ["user.*"]);
}

#[test]
fn every_alert_links_to_its_section_of_the_runbook() {
    let (alerts, runbook) = (text("deploy/prometheus/alerts.yaml"), text("deploy/RUNBOOK.md"));
    let anchors: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 25, "{} alerts", rules.len());
    for rule in rules {
        let name = rule.lines().next().unwrap();
        let urls: Vec<&str> = rule
            .lines()
            .filter_map(|line| line.trim().strip_prefix("runbook_url: "))
            .collect();
        let [url] = urls[..] else {
            panic!("{name} has {} runbook_url", urls.len())
        };
        let (page, anchor) = url.split_once('#').unwrap();
        assert!(
            page.starts_with("https://") && page.ends_with("/RUNBOOK.md"),
            "{name}: {page}"
        );
        assert_eq!(anchor, name.to_lowercase(), "{name}");
        assert!(anchors.contains(anchor), "{name}: RUNBOOK.md has no section {anchor}");
    }
}
