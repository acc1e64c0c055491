//! A target: the properties of one parser, with the inputs from which others are made.

use std::path::{Path, PathBuf};

/// The properties of one parser.
pub(crate) struct Target {
    /// The name of its corpus and its dictionary.
    pub(crate) name: &'static str,
    /// How many mutated inputs a test run checks: about two seconds.
    pub(crate) inputs: u32,
    /// Inputs that are worth changing. The first are valid.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if a property does not hold. Returns whether the parser accepted the input.
    pub(crate) check: fn(&[u8]) -> bool,
}

/// The folder of this crate.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

impl Target {
    /// The inputs in the repository, if there are any.
    pub(crate) fn corpus(&self) -> Vec<Vec<u8>> {
        let Ok(folder) = std::fs::read_dir(folder().join("corpus").join(self.name)) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// The texts that a mutation may insert: in the form of libFuzzer, one quoted text a line, with `\xHH` for other bytes.
    pub(crate) fn dictionary(&self) -> Vec<Vec<u8>> {
        let file = folder().join("dictionaries").join(format!("{}.dict", self.name));
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| unescaped(line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap()))
            .collect()
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, rest) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                rest = after;
                let digits = std::str::from_utf8(&[*high, *low]).unwrap().to_owned();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            (b'\\', [escaped, after @ ..]) => {
                rest = after;
                *escaped
            }
            (plain, _) => *plain,
        });
    }
    bytes
}
