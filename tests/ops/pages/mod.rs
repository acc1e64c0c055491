//! Every command that a page shows works as it stands. Each test takes the commands from a page, in their order, and runs
//! them in a bash on real servers. Programs that need a daemon, a cluster or systemd are replaced by the scripts in
//! `stand-ins`, which run the build under test with the environment and the files that the compose file, the chart or the
//! unit gives it.
//!
//! A command that cannot run here is in `NOT_RUN`, with the reason. A page with commands that no test runs is a failure.

mod backup;
mod commands;
mod compose;
mod container;
mod kubernetes;
mod readme;
mod runbook;
mod shape;
mod shell;
mod systemd;

use std::path::Path;

use commands::{Command, of_page, root};
use shell::{Ended, Shell};

/// The password that commands read from their standard input. Without blanks, because the README puts it into an unquoted
/// variable.
const PASSWORD: &str = "ashbmpfesetpwjmsrace";

/// The pages with commands, and the tests that run them.
const PAGES: &[(&str, &str)] = &[
    ("README.md", "readme"),
    ("SECURITY.md", "runbook"),
    ("deploy/BACKUP.md", "backup"),
    ("deploy/Dockerfile", "tests/image"),
    ("deploy/RUNBOOK.md", "runbook"),
    ("deploy/SIZING.md", "none: one measurement"),
    ("deploy/compose.observe.yaml", "compose"),
    ("deploy/compose.yaml", "compose"),
    ("deploy/countersign.toml", "compose"),
    ("deploy/helm/countersign/templates/NOTES.txt", "kubernetes"),
    ("deploy/helm/countersign/values.yaml", "kubernetes"),
    ("deploy/istio.yaml", "kubernetes"),
    ("deploy/systemd/countersign.service", "systemd"),
    ("deploy/systemd/countersign.socket", "systemd"),
    ("examples/guard.rs", "none: fixed ports"),
    ("examples/login.rs", "none: fixed ports"),
    ("examples/web-gateway/main.rs", "examples/web-gateway/browser-test"),
];

/// Commands that are not run: the page, the command (its beginning, if a blank ends it), and the reason.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "tests/run", "runs this test"),
    (
        "README.md",
        "countersign agent",
        "the name of the command; it runs with its options",
    ),
    ("README.md", "cargo build ", "takes many minutes"),
    ("README.md", "docker compose ", "needs Prometheus and Grafana"),
    ("deploy/Dockerfile", "docker build ", "tests/image builds it"),
    (
        "deploy/Dockerfile",
        "docker run ",
        "tests/image runs it with the same restrictions",
    ),
    ("deploy/RUNBOOK.md", "kubectl describe ", "describes a pod of a cluster"),
    (
        "deploy/RUNBOOK.md",
        "kubectl rollout ",
        "replaces the pods of a cluster",
    ),
    ("deploy/RUNBOOK.md", "systemctl status ", "asks systemd"),
    ("deploy/SIZING.md", "cargo bench ", "a measurement"),
    (
        "deploy/systemd/countersign.service",
        "cargo build ",
        "takes many minutes",
    ),
    (
        "deploy/compose.observe.yaml",
        "docker compose ",
        "needs Prometheus and Grafana",
    ),
];

fn is(command: &Command, (page, text, _): &(&str, &str, &str)) -> bool {
    let whole = command.text == *text;
    *page == command.page && (whole || text.ends_with(' ') && command.text.starts_with(text))
}

/// The commands of a page that are run.
fn runnable(page: &str) -> impl Iterator<Item = Command> {
    of_page(page)
        .into_iter()
        .filter(|command| !NOT_RUN.iter().any(|listed| is(command, listed)))
}

/// Runs a command with these replacements in its text, and [`PASSWORD`] as its standard input. It must succeed.
fn succeed(shell: &mut Shell, command: &Command, replaced: &[(&str, &str)]) -> Ended {
    let text = replace(&command.text, replaced);
    let ended = shell.run(&text, &format!("{PASSWORD}\n"));
    assert_eq!(ended.status, 0, "{}\n{text}\n{}", command.place(), ended.output);
    ended
}

fn replace(text: &str, replaced: &[(&str, &str)]) -> String {
    replaced
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The first word of an output that begins with `prefix`: a secret, or the id of a key.
fn word<'a>(output: &'a str, prefix: &str) -> Option<&'a str> {
    output
        .split(|character: char| character.is_whitespace() || character == '"')
        .find(|word| word.starts_with(prefix))
}

/// Asserts that the audit trail has an event of each of these types. `countersign` must work in the shell.
fn assert_audited(shell: &mut Shell, types: &[&str]) {
    for name in types {
        let found = shell.run(&format!("countersign audit query --output json --type {name}"), "");
        assert!(
            found.status == 0 && found.output.contains(&format!("\"{name}\"")),
            "no {name}: {found:?}"
        );
    }
}

/// The files of the source tree that may have commands.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if !entry.file_type().unwrap().is_dir() {
            found.push(path.to_str().unwrap().to_owned());
        } else if !["secrets", "node_modules"].iter().any(|name| path.ends_with(name)) {
            files(&path, found);
        }
    }
}

#[test]
fn every_page_with_commands_has_a_test() {
    let mut names = vec!["README.md".to_owned(), "SECURITY.md".to_owned()];
    files(Path::new("deploy"), &mut names);
    files(Path::new("examples"), &mut names);
    for name in &names {
        let is_text = std::fs::read_to_string(root().join(name)).is_ok();
        let has_commands = is_text && !of_page(name).is_empty();
        let listed = PAGES.iter().any(|(page, _)| page == name);
        assert_eq!(has_commands, listed, "{name}: add it to PAGES, or remove it");
    }
    for listed in NOT_RUN {
        let there = of_page(listed.0).iter().any(|command| is(command, listed));
        assert!(there, "no longer on its page: {listed:?}");
    }
}
