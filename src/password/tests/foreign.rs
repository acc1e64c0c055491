//! Hashes of other systems, made by the tools that those systems use (`tests/vectors/hashes`).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::hash::ScratchMemory;
use super::super::stored::check_imported;
use super::*;

#[derive(Deserialize)]
struct Vector {
    tool: String,
    format: String,
    password: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    let files = [
        include_str!("../../../tests/vectors/hashes/python.jsonl"),
        include_str!("../../../tests/vectors/hashes/node.jsonl"),
        include_str!("../../../tests/vectors/hashes/php.jsonl"),
    ];
    let lines = files.iter().flat_map(|file| file.lines());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn hashes_of_other_systems_match_their_passwords_and_are_to_be_replaced() {
    let (vectors, parameters) = (vectors(), parameters(&[], false));
    let formats: BTreeSet<(&str, &str)> = vectors.iter().map(|v| (v.tool.as_str(), v.format.as_str())).collect();
    assert_eq!((vectors.len(), formats.len()), (211, 52), "{formats:?}");
    for Vector {
        tool,
        format,
        password,
        hash,
    } in &vectors
    {
        let name = format!("{tool}, {format}: {hash}");
        check_imported(&text(hash), "password_hash").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(verify(&parameters, hash, password), (true, true), "{name}");
        let other = format!("X{password}");
        assert_eq!(verify(&parameters, hash, &other), (false, false), "{name}");
        // Only argon2 hashes may be ours, and are also compared with the NFC form.
        let composed = password.replace("a\u{308}", "\u{e4}");
        if composed != *password {
            assert_eq!(verify(&parameters, hash, &composed), (false, false), "{name}");
        }
    }
}

#[test]
fn every_form_that_the_page_lists_is_accepted_and_matches_its_example() {
    let page = include_str!("../../../docs/import.md");
    let cells = page
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit_once("| `"));
    let examples: Vec<&str> = cells.map(|(_, example)| example).collect();
    assert_eq!(examples.len(), 26, "{examples:#?}");
    for example in examples {
        assert_eq!(
            verify(&parameters(&[], false), example, "correct horse"),
            (true, true),
            "{example}"
        );
    }
}

#[test]
fn a_scheme_before_a_hash_is_read_in_any_case() {
    let bcrypt = "$2b$04$/OK.fbVrR/bpIqNJ5ianF.spGd4MiT6NQ0T2iyfJJVKT5mK3MRKLi";
    for scheme in ["{CRYPT}", "{crypt}", "{bcrypt}"] {
        let hash = format!("{scheme}{bcrypt}");
        assert_eq!(
            verify(&parameters(&[], false), &hash, "correct horse"),
            (true, true),
            "{hash}"
        );
    }
}

#[test]
fn a_wrong_password_takes_the_time_of_an_unknown_user_at_least() {
    let parameters = parameters(&[], false);
    for hash in [
        "{SSHA}qzg7amC+QhmwhtDTM7+02MztDcFHqJXS",
        "$P$62.qIBDR7PWlZ74w6o647SKRCymcDn1",
    ] {
        let mut memory = ScratchMemory::default();
        let check = parameters
            .verify(Some(&text(hash)), &text("wrong"), &mut memory)
            .unwrap();
        assert!(!check.matches);
        // The memory tells that a hash of the current cost was computed.
        assert_eq!(memory.blocks_held(), 64);
    }
}

#[test]
fn a_stored_hash_is_not_printed() {
    for vector in vectors() {
        let stored = super::super::stored::StoredHash::parse(&vector.hash).unwrap();
        assert_eq!(format!("{stored:?}"), "[redacted]");
    }
}
