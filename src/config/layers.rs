//! The layers, from the lowest: compiled-in, file, environment, flags. Each value remembers where it came from, and
//! an unknown key is refused with the place where it stands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::environment;
use super::error::ConfigError;

/// Every option with its default and the reason for it.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// The largest configuration file, and the largest file that an environment variable may name.
const MAX_FILE: u64 = 1024 * 1024;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `config.default.toml`.
    Default,
    /// The file of `--config`.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// This flag of the command line.
    Flag(&'static str),
    /// Unset; follows from other options or from the machine.
    Derived,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Derived => f.write_str("derived"),
        }
    }
}

/// A flag of the command line that sets an option.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it, for instance `--listen`.
    pub name: &'static str,
    /// The option, for instance `server.listen`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// What lies above the compiled-in defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// The file of `--config`.
    pub file: Option<&'a Path>,
    /// The environment. Names that are no configuration are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// Set flags.
    pub flags: Vec<Flag>,
}

/// Values by key, each with its source.
pub(super) type Values = BTreeMap<String, (Value, Source)>;

/// The compiled-in layer alone.
pub(super) fn defaults() -> Result<Values, ConfigError> {
    let table: Table = DEFAULTS
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::new(error.to_string()).from_source(Source::Default))?;
    let mut values = Values::new();
    flatten("", table, &|_| false, &mut |key, value| {
        values.insert(key, (value, Source::Default));
    });
    Ok(values)
}

/// All layers on top of one another. `known` are the keys that there are.
pub(super) fn merge(layers: &Layers<'_>, known: &[String]) -> Result<Values, ConfigError> {
    let mut values = defaults()?;
    let mut set = |key: String, value: Value, source: Source| -> Result<(), ConfigError> {
        if !known.contains(&key) {
            return Err(unknown(&key, known, source));
        }
        values.insert(key, (value, source));
        Ok(())
    };
    if let Some(path) = layers.file {
        for (key, value) in read_table(path, known)? {
            set(key, value, Source::File(path.to_owned()))?;
        }
    }
    for (key, text, name) in environment::read(&layers.environment)? {
        set(key, Value::String(text), Source::Environment(name))?;
    }
    for flag in &layers.flags {
        set(
            flag.key.to_owned(),
            Value::String(flag.value.clone()),
            Source::Flag(flag.name),
        )?;
    }
    Ok(values)
}

/// Reads a small file of text; the error names it.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let cannot = |why: &dyn fmt::Display| ConfigError::new(format!("cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > MAX_FILE {
        return Err(cannot(&"larger than 1 MiB"));
    }
    std::fs::read_to_string(path).map_err(|error| cannot(&error))
}

fn read_table(path: &Path, known: &[String]) -> Result<Vec<(String, Value)>, ConfigError> {
    let table: Table = read_file(path)?.parse().map_err(|error: toml::de::Error| {
        // Without the excerpt that the library prints: the line may hold a secret.
        let line = error.span().map_or(0, |span| span.start);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = 1 + text.bytes().take(line).filter(|byte| *byte == b'\n').count();
        ConfigError::new(format!("not TOML: {} in line {line}", error.message()))
            .from_source(Source::File(path.to_owned()))
    })?;
    let mut values = Vec::new();
    flatten("", table, &|key| known.iter().any(|k| k == key), &mut |key, value| {
        values.push((key, value));
    });
    // A section with nothing in it sets nothing, if there is such a section.
    let is_section = |key: &str| {
        known
            .iter()
            .any(|k| k.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    };
    values.retain(|(key, value)| !(value.as_table().is_some_and(Table::is_empty) && is_section(key)));
    Ok(values)
}

/// Calls `leaf` for every value that is no table, is an empty one, or is an option by itself.
fn flatten(prefix: &str, table: Table, is_option: &dyn Fn(&str) -> bool, leaf: &mut dyn FnMut(String, Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        if let Value::Table(inner) = &value
            && !is_option(&key)
            && !inner.is_empty()
        {
            flatten(&key, inner.clone(), is_option, leaf);
        } else {
            leaf(key, value);
        }
    }
}

fn unknown(key: &str, known: &[String], source: Source) -> ConfigError {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere = known.iter().find(|other| last(other) == last(key));
    let near = known
        .iter()
        .map(|other| (strsim::normalized_damerau_levenshtein(other, key), other))
        .filter(|(likeness, _)| *likeness >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other);
    let hint = near.or(elsewhere).map_or_else(String::new, |other| match &source {
        Source::Environment(_) => format!("; did you mean {}?", environment::name_of(other)),
        Source::Default | Source::File(_) | Source::Flag(_) | Source::Derived => format!("; did you mean {other}?"),
    });
    ConfigError::at(key, format!("no such option{hint}")).from_source(source)
}
