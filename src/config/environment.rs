//! The environment as a layer: `COUNTERSIGN_<SECTION>__<KEY>` holds the value, or `…_FILE` the path of a file with the value.

use std::ffi::OsString;
use std::path::Path;

use super::error::ConfigError;
use super::layers::{Source, read_file};

const PREFIX: &str = "COUNTERSIGN_";
const FILE_SUFFIX: &str = "_FILE";
/// Variables with this prefix configure the tests, not the service.
const TEST_PREFIX: &str = "COUNTERSIGN_TEST_";

/// The key, value and name of each environment variable that sets an option.
pub(super) fn read(environment: &[(OsString, OsString)]) -> Result<Vec<(String, String, String)>, ConfigError> {
    let mut found: Vec<(String, String, String)> = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if !rest.contains("__") || name.starts_with(TEST_PREFIX) {
            continue;
        }
        let source = || Source::Environment(name.to_owned());
        let value = value
            .to_str()
            .ok_or_else(|| ConfigError::new("the value is not UTF-8").from_source(source()))?;
        let (rest, value) = match rest.strip_suffix(FILE_SUFFIX) {
            Some(rest) => {
                let text = read_file(Path::new(value)).map_err(|error| error.from_source(source()))?;
                (rest, without_newline(text))
            }
            None => (rest, value.to_owned()),
        };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        if let Some((_, _, other)) = found.iter().find(|(known, ..)| *known == key) {
            return Err(ConfigError::at(key, format!("set twice: {other} sets it too")).from_source(source()));
        }
        found.push((key, value, name.to_owned()));
    }
    Ok(found)
}

/// The name of the environment variable that sets `key`.
pub(super) fn name_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
