//! The layers of the configuration, lowest first: defaults, file, environment, flags. Each value keeps its source, and an
//! unknown key is an error that names its source.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::environment;
use super::error::ConfigError;

/// The text of `config.default.toml`: every option with its default and the reason for it.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// The largest configuration file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `config.default.toml`.
    Default,
    /// The file of `--config`.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// This environment variable, which names this file.
    EnvironmentFile(String, PathBuf),
    /// This flag of the command line.
    Flag(&'static str),
    /// Not set: derived from other options or from the machine.
    Derived,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) | Self::EnvironmentFile(name, _) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Derived => f.write_str("derived"),
        }
    }
}

/// A flag of the command line that sets an option.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag as the user writes it, for instance `--listen`.
    pub name: &'static str,
    /// The option, for instance `server.listen`.
    pub key: &'static str,
    /// The value.
    pub value: String,
}

/// The layers above the compiled-in defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// The file of `--config`.
    pub file: Option<&'a Path>,
    /// All environment variables. Those that do not set an option are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags that the user set.
    pub flags: Vec<Flag>,
}

/// Values by key, each with its source.
pub(super) type Values = BTreeMap<String, (Value, Source)>;

/// The values of the compiled-in defaults.
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

/// The values of all layers together; a later layer replaces an earlier one. `known` are all valid keys.
pub(super) fn merge(layers: &Layers<'_>, known: &[String]) -> Result<Values, ConfigError> {
    let mut values = defaults()?;
    let mut set = |key: String, value: Value, source: Source| -> Result<(), ConfigError> {
        if !known.contains(&key) {
            return Err(unknown_key(&key, known, source));
        }
        values.insert(key, (value, source));
        Ok(())
    };
    if let Some(path) = layers.file {
        for (key, value) in read_table(path, known)? {
            set(key, value, Source::File(path.to_owned()))?;
        }
    }
    for variable in environment::read(&layers.environment, known)? {
        set(variable.key, Value::String(variable.value), variable.source)?;
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

/// Reads a text file of at most 1 MiB. The error names the file.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let cannot = |why: &dyn fmt::Display| ConfigError::new(format!("cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > MAX_FILE {
        return Err(cannot(&"larger than 1 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn read_table(path: &Path, known: &[String]) -> Result<Vec<(String, Value)>, ConfigError> {
    let table: Table = read_file(path)?.parse().map_err(|error: toml::de::Error| {
        // The message leaves out the excerpt that the library prints, because the line may contain a secret.
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
    // An empty section sets nothing, so it is accepted if the section exists.
    let is_section = |key: &str| {
        known
            .iter()
            .any(|k| k.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    };
    values.retain(|(key, value)| !(value.as_table().is_some_and(Table::is_empty) && is_section(key)));
    Ok(values)
}

/// Calls `leaf` for every value that is not a table, and for tables that are empty or are the value of an option.
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

fn unknown_key(key: &str, known: &[String], source: Source) -> ConfigError {
    let last_part = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let in_other_section = known.iter().find(|other| last_part(other) == last_part(key));
    let similar = known
        .iter()
        .map(|other| (strsim::normalized_damerau_levenshtein(other, key), other))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other);
    let hint = similar
        .or(in_other_section)
        .map_or_else(String::new, |other| match &source {
            Source::Environment(_) | Source::EnvironmentFile(..) => {
                format!("; did you mean {}?", environment::name_of(other))
            }
            Source::Default | Source::File(_) | Source::Flag(_) | Source::Derived => format!("; did you mean {other}?"),
        });
    ConfigError::at(key, format!("no such option{hint}")).from_source(source)
}
