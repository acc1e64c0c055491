//! Compares the output of a command with the output that a page shows.

/// Whether the output has the shape that the page shows. A line `…` stands for any lines. Ids, times and tokens differ from
/// run to run: only their kind must be the same.
pub(crate) fn agrees(shown: &[String], output: &str) -> bool {
    let lines: Vec<String> = output.lines().map(kinds).collect();
    let mut at = 0;
    let mut may_skip = false;
    for wanted in shown {
        if wanted.trim() == "…" {
            may_skip = true;
            continue;
        }
        let wanted = kinds(wanted);
        let found = lines[at..].iter().position(|line| *line == wanted);
        match found {
            Some(0) => at += 1,
            Some(skipped) if may_skip => at += skipped + 1,
            _ => return false,
        }
        may_skip = false;
    }
    may_skip || at == lines.len()
}

/// The line with the kind of each quoted value that differs from run to run in the place of the value.
fn kinds(line: &str) -> String {
    let parts = line.trim_end().split('"').enumerate();
    let parts: Vec<&str> = parts
        .map(|(index, part)| if index % 2 == 1 { kind(part) } else { part })
        .collect();
    parts.join("\"")
}

fn kind(text: &str) -> &str {
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    let url_safe = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if text.starts_with("eyJ") {
        "<JWT>"
    } else if text.starts_with("csr_") {
        "<refresh token>"
    } else if dashes == [8, 13, 18, 23] && text.len() == 36 {
        "<UUID>"
    } else if text.len() >= 20 && dashes == [4, 7] && text.ends_with('Z') {
        "<time>"
    } else if text.len() == 43 && url_safe(text) {
        "<SHA-256>"
    } else {
        text
    }
}

#[test]
fn shapes_are_compared() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let output = "{\n  \"id\": \"01a1fffa-a8de-74e1-904a-ad449b48ba6d\",\n  \"n\": 1\n}\n";
    for good in [
        "{\n  \"id\": \"00000000-0000-0000-0000-000000000000\",\n  \"n\": 1\n}",
        "{\n  …\n}",
        "{\n  …\n  \"n\": 1\n}",
        "…",
    ] {
        assert!(agrees(&shown(good), output), "{good}");
    }
    for bad in [
        "{\n  \"id\": \"x\",\n  \"n\": 1\n}",
        "{\n  \"n\": 1\n}",
        "{\n  …\n  \"n\": 2\n}",
        "{",
        "",
    ] {
        assert!(!agrees(&shown(bad), output), "{bad}");
    }
}
