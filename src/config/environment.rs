//! The environment as a layer: `COUNTERSIGN_<SECTION>__<KEY>` holds the value, or `…_FILE` the path of a file with the value.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::ConfigError;
use super::layers::Source;
use crate::secret::SecretText;

/// How the names of all environment variables of this program begin.
pub const PREFIX: &str = "COUNTERSIGN_";
const FILE_SUFFIX: &str = "_FILE";
/// Variables with this prefix configure the tests, not the service.
const TEST_PREFIX: &str = "COUNTERSIGN_TEST_";

/// Lists and tables. An empty value empties them; for every other option it means that the variable does not set the option.
pub(super) const LISTS: [&str; 6] = [
    "server.anonymous_scopes",
    "server.shared_sources",
    "server.tls.client_identities",
    "keys.master_key_command",
    "gateway.attributes",
    "gateway.scopes",
];

/// An option that the environment sets.
pub(super) struct Variable {
    pub(super) key: String,
    /// Without the blanks and quotation marks around it.
    pub(super) value: String,
    pub(super) source: Source,
}

/// The options that environment variables set. `known` are all valid keys.
pub(super) fn read(environment: &[(OsString, OsString)], known: &[String]) -> Result<Vec<Variable>, ConfigError> {
    let mut found: Vec<Variable> = Vec::new();
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
        let value = unquoted(value);
        let key_of = |rest: &str| rest.to_ascii_lowercase().replace("__", ".");
        // The name of an option may end in `_FILE` too.
        let of_file = rest
            .strip_suffix(FILE_SUFFIX)
            .filter(|_| !known.contains(&key_of(rest)));
        let variable = match of_file {
            Some(rest) if value.is_empty() => Variable {
                key: key_of(rest),
                value: String::new(),
                source: source(),
            },
            Some(rest) => {
                let path = PathBuf::from(value);
                let text = read_value(&path).map_err(|error| error.from_source(source()))?;
                Variable {
                    key: key_of(rest),
                    value: text.expose().to_owned(),
                    source: Source::EnvironmentFile(name.to_owned(), path),
                }
            }
            None => Variable {
                key: key_of(rest),
                value: value.to_owned(),
                source: source(),
            },
        };
        if !known.contains(&variable.key) || !variable.value.is_empty() || LISTS.contains(&&*variable.key) {
            if let Some(other) = found.iter().find(|other| other.key == variable.key) {
                let problem = format!("set twice: {} sets it too", other.source);
                return Err(ConfigError::at(variable.key, problem).from_source(source()));
            }
            found.push(variable);
        }
    }
    Ok(found)
}

/// Reads the file of a variable whose name ends in `_FILE`.
pub(super) fn read_value(path: &std::path::Path) -> Result<SecretText, ConfigError> {
    let cannot = |why: &dyn std::fmt::Display| ConfigError::new(format!("cannot read {}: {why}", path.display()));
    let text = SecretText::read_file(path).map_err(|error| cannot(&error))?;
    if text.is_empty() {
        return Err(cannot(&"it is empty"));
    }
    Ok(text)
}

/// The name of the environment variable that sets `key`.
pub(super) fn name_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// The value without the blanks and the pair of quotation marks around it: `docker --env-file` passes on quotation marks that
/// a shell would remove, and the line ends of files that were written on Windows.
#[must_use]
pub fn unquoted(value: &str) -> &str {
    let value = value.trim();
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .map_or(value, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DEFAULTS, Layers};

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(&Layers {
            environment: pairs.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            ..Layers::default()
        })
    }

    #[test]
    fn quotation_marks_and_blanks_around_a_value_are_not_part_of_it() {
        for value in [
            "\"https://a.example\"",
            "'https://a.example'",
            " https://a.example\r",
            "\" https://a.example \"",
        ] {
            let config = load(&[("COUNTERSIGN_TOKENS__ISSUER", value)]).unwrap();
            assert_eq!(config.tokens.issuer, "https://a.example", "{value:?}");
        }
        for (value, expected) in [("\"", "\""), ("'a\"", "'a\""), ("a'b'", "a'b'"), ("\"\"", "")] {
            assert_eq!(unquoted(value), expected);
        }
    }

    #[test]
    fn an_empty_value_sets_nothing_but_empties_a_list() {
        let config = load(&[
            ("COUNTERSIGN_TOKENS__ISSUER", ""),
            ("COUNTERSIGN_TOKENS__ACCESS_TTL", " "),
            ("COUNTERSIGN_STORAGE__MODE", "''"),
            ("COUNTERSIGN_STORAGE__DATA_DIR", "\"\""),
            ("COUNTERSIGN_STORAGE__DATABASE_URL_FILE", ""),
            ("COUNTERSIGN_SERVER__ANONYMOUS_SCOPES", "\"\""),
        ])
        .unwrap();
        assert_eq!(config.tokens.issuer, "https://countersign.local");
        assert!(!config.is_set("tokens.access_ttl"));
        assert!(
            config.server.anonymous_scopes().is_empty(),
            "the list is empty, not the default"
        );
        let both = [
            ("COUNTERSIGN_TOKENS__ISSUER", ""),
            ("COUNTERSIGN_TOKENS__ISSUER_FILE", "/nonexistent"),
        ];
        assert!(load(&both).unwrap_err().to_string().contains("/nonexistent"));
        load(&[("COUNTERSIGN_TOKENS__ISUER", "")]).unwrap_err();
    }

    #[test]
    fn every_list_is_known() {
        let (mut section, mut lists) = (String::new(), Vec::new());
        for line in DEFAULTS.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if let Some((name, value)) = line.trim_start_matches("# ").split_once(" = ")
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                && (value.starts_with('[') || value.starts_with('{'))
            {
                lists.push(format!("{section}.{name}"));
            }
        }
        let mut known = LISTS.map(str::to_owned);
        known.sort();
        lists.sort();
        assert_eq!(lists, known);
    }

    #[test]
    fn a_file_is_read_without_its_byte_order_mark_and_blanks_and_must_not_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer");
        let of_file = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            load(&[("COUNTERSIGN_TOKENS__ISSUER_FILE", path.to_str().unwrap())])
        };
        let config = of_file(b"\xef\xbb\xbfhttps://a.example \r\n\n").unwrap();
        assert_eq!(config.tokens.issuer, "https://a.example");
        assert_eq!(config.file_of("tokens.issuer"), Some(path.as_path()));
        assert_eq!(config.file_of("tokens.leeway"), None);
        for (text, problem) in [
            (&b"\n"[..], "empty"),
            (b"\xff\xfeh\0", "UTF-16"),
            (b"\xff", "not UTF-8"),
        ] {
            let error = of_file(text).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("ISSUER_FILE"), "{error}");
        }
    }

    #[test]
    fn an_option_whose_name_ends_in_file_is_not_read_from_one() {
        let config = load(&[("COUNTERSIGN_AGENT__CA_FILE", "/etc/ca.crt")]).unwrap();
        assert_eq!(config.agent.ca_file.as_deref(), Some("/etc/ca.crt".as_ref()));
    }
}
