//! Tags and secrets are compared in constant time, by `secret::same` (which uses `subtle`). This test searches the
//! source code for other comparisons of secrets.
//!
//! It recognises secrets by name, so a new secret should have one of the names below. A SHA-256 of 256 random bits
//! may be compared in any way: a prefix learnt through timing reveals nothing about the hashed secret.

use std::fs;
use std::path::{Path, PathBuf};

/// Words in the names of secret values, which an attacker must not be able to guess byte by byte.
const SECRETS: &[&str] = &[
    "tag", "mac", "hmac", "secret", "password", "pepper", "digest", "seed", "checksum", "expose", "hash",
];

/// Comparisons that only look like comparisons of secrets: file, text of the line, what is compared.
const HARMLESS: &[(&str, &str, &str)] = &[
    ("account/users/passwords.rs", "token.expose().len() !=", "a length"),
    (
        "account/paging.rs",
        "digest == self.digest(key)",
        "a digest that anybody can compute",
    ),
    ("http/routes.rs", "listed == tag", "an entity tag of what is published"),
    ("password/verify.rs", "tag.len() == TAG_LEN", "a length"),
    ("password/stored/pbkdf2.rs", "phc.tag.len()", "a length"),
    ("password/stored/pbkdf2.rs", "tag.len() == digest.", "a length"),
    ("password/stored/legacy.rs", "tag.len() == length", "a length"),
    ("password/stored/scrypt.rs", "key.len() != tag.len()", "a length"),
    ("store/durable/keys.rs", "secret.id", "the number of a key"),
    ("store/durable/keys.rs", "secret.purpose", "the purpose of a key"),
    (
        "token/refresh_token.rs",
        "crc32fast::hash",
        "a checksum that anybody can compute",
    ),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") && !name.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

/// The code lines of a file up to its test module, without comments.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    let bare = lines.map(|line| line.split("//").next().unwrap().to_owned());
    bare.collect()
}

/// The words of an expression. Identifiers are split at underscores, so `secret_hash` gives two words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// The approximate text of the two operands of each `==` and `!=` in a line.
fn compared(line: &str) -> Vec<&str> {
    const ENDS: [&str; 9] = [" && ", " || ", "if ", "=> ", " = ", "{", ";", "|", ", "];
    let mut found = Vec::new();
    for (at, _) in line.match_indices(" == ").chain(line.match_indices(" != ")) {
        let (left, right) = (&line[..at], &line[at + 4..]);
        let start = ENDS
            .iter()
            .filter_map(|end| left.rfind(end).map(|i| i + end.len()))
            .max();
        let stop = ENDS.iter().filter_map(|end| right.find(end)).min();
        found.push(&line[start.unwrap_or(0)..at + 4 + stop.unwrap_or(right.len())]);
    }
    found
}

fn is_suspicious(comparison: &str) -> bool {
    words(comparison).any(|word| SECRETS.contains(&word))
}

#[test]
fn no_secret_is_compared_byte_by_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut suspicious = Vec::new();
    let mut excused = vec![0; HARMLESS.len()];
    for file in &files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        for line in code(file) {
            for comparison in compared(&line).into_iter().filter(|text| is_suspicious(text)) {
                let known = HARMLESS
                    .iter()
                    .position(|(place, text, _)| *place == name && line.contains(text));
                match known {
                    Some(known) => excused[known] += 1,
                    None => suspicious.push(format!("{name}: {}", comparison.trim())),
                }
            }
        }
    }
    assert!(files.len() > 150, "too few source files were read");
    assert!(
        suspicious.is_empty(),
        "compare with secret::same, or add a reason to HARMLESS:\n{suspicious:#?}"
    );
    let idle: Vec<_> = HARMLESS.iter().zip(excused).filter(|(_, times)| *times == 0).collect();
    assert!(idle.is_empty(), "HARMLESS entries without a matching line: {idle:?}");
}

#[test]
fn the_check_finds_comparisons_of_secrets() {
    for bad in [
        "if tag == expected {",
        "let good = self.secret_hash != presented.secret_hash;",
        "a.is_some() && token.secret.expose() == other",
        "rows.find(|row| row.digest == digest)",
    ] {
        assert!(compared(bad).into_iter().any(is_suspicious), "{bad}");
    }
    for good in [
        "if purpose == SecretPurpose::Refresh {",
        "self.same(secret) && n == 4",
        "let secret = a == b;",
        "hash(x); y != z",
    ] {
        assert!(!compared(good).into_iter().any(is_suspicious), "{good}");
    }
}

/// `secret::same` uses `subtle`, and every kind of presented secret is compared through it.
#[test]
fn every_kind_of_secret_is_compared_in_constant_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let holds = |file: &str, text: &str| {
        let code = code(&root.join(file)).join("\n");
        assert!(code.contains(text), "{file} does not contain `{text}`");
    };
    holds("secret.rs", "use subtle::ConstantTimeEq");
    holds("secret.rs", "a.ct_eq(b).into()");
    holds("keys/refresh.rs", "same(&self.tag(bytes), tag)");
    holds("model/record.rs", "same(&self.secret_hash, &presented.secret_hash)");
    holds("password/stored/mod.rs", "same(&computed, tag)");
    holds("password/stored/bcrypt.rs", "same(computed.as_bytes(), tag)");
    holds("password/stored/scrypt.rs", "same(&computed, &self.tag)");
    holds("password/stored/legacy.rs", "same(&state, &self.tag)");
    holds("token/client_secret.rs", "same(hash, &presented)");
}
